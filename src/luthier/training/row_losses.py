"""What each training line's loss was in the epoch under way, taken from the steps themselves: no forward is made for it.

What it does: adds up a step's losses by row; is part of the resume state, so that an epoch that was interrupted ends with every line
once. What it does not: compute a loss. Called by ``loop.py``; the file is that of ``core/row_losses.py``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from luthier.core.row_losses import ROW, write_epoch
from luthier.training.tokens import TokenSource

_TENSOR = "row_losses"


class RowLosses:
    """Of one run. A row that no step of the epoch has read yet has the loss NaN, and is left out of the file."""

    def __init__(self, source: TokenSource, run_dir: Path | None) -> None:
        """``run_dir``: where the files go; None: nothing is kept."""
        self._source, self._run_dir = source, run_dir
        self._sums_E = np.full(0 if run_dir is None else len(source.lengths), np.nan, dtype=np.float32)

    def add(self, rows: Sequence[int], losses_N: Tensor | None) -> None:
        """Take the losses of one forward's trained tokens, row after row; None where the method has none by token."""
        if self._run_dir is None or losses_N is None:
            return
        counts = np.array([self._source.examples[row].rendered.num_trained for row in rows])
        # A row without a trained token has no losses to add up; ``reduceat`` would take the next row's first.
        some = np.asarray(rows)[counts > 0]
        starts = np.concatenate(([0], np.cumsum(counts[counts > 0])[:-1]))
        self._sums_E[some] = np.add.reduceat(losses_N.cpu().numpy().astype(np.float64), starts)

    def finish(self, epoch: int) -> None:
        """The epoch is over: write its file, and begin the next.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._run_dir is None:
            return
        (seen,) = np.nonzero(~np.isnan(self._sums_E))
        if seen.size:
            examples = [self._source.examples[int(index)] for index in seen]
            rows = np.zeros(len(seen), dtype=ROW)
            rows["line"] = [example.source.line for example in examples]
            rows["tokens"] = [example.rendered.num_trained for example in examples]
            rows["loss"] = self._sums_E[seen] / rows["tokens"]
            write_epoch(self._run_dir, epoch, rows[np.argsort(rows["line"], kind="stable")])
        self._sums_E[:] = np.nan

    def state(self) -> dict[str, Tensor]:
        """For the resume state: a copy."""
        return {} if self._run_dir is None else {_TENSOR: torch.from_numpy(self._sums_E.copy())}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a resume state; one of an older version, which has none, leaves the epoch's earlier rows unknown."""
        kept = tensors.get(_TENSOR)
        if kept is not None and self._run_dir is not None:
            self._sums_E = kept.numpy().copy()
