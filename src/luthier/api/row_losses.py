"""A page of a job's losses by training line, out of the run folder's files.

What it does: chooses the epoch, sorts, and sets beside each loss the one of the run's first known epoch. What it does not: find the job,
or frame a reply (``routes/luthier.py`` does). The files' layout stands in ``core/row_losses.py``.
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from luthier.core.errors import NotFound
from luthier.core.row_losses import known_epochs, read_epoch

_FIELDS = ("line", "tokens", "loss")


RowOrder = Literal["line", "loss", "fall"]
"""As in the file; the highest loss first; those first whose loss has fallen least since the first epoch."""


def row_loss_page(run_dir: Path, *, epoch: int | None, order: RowOrder, after: int | None, limit: int) -> dict[str, Any]:
    """The page, as it is answered.

    Args:
        run_dir: of the job.
        epoch: None: the latest one that is over.
        order: of the rows; equal ones by line.
        after: line of the last row of the page before.
        limit: most rows.

    Raises:
        NotFound: the epoch is not over or was not measured, or ``after`` is no line of it.
    """
    epochs = known_epochs(run_dir)
    if epoch is None and not epochs:
        return {"object": "list", "data": [], "has_more": False, "epoch": None, "epochs": []}
    chosen = epochs[-1] if epoch is None else epoch
    rows = read_epoch(run_dir, chosen)
    first = _first_losses(run_dir, epochs[0], rows["line"]) if epochs and epochs[0] < chosen else np.full(len(rows), np.nan)
    positions = _sorted(rows, first, order)
    start = 0
    if after is not None:
        (found,) = np.nonzero(rows["line"][positions] == after)
        if not found.size:
            raise NotFound(f"Line {after} is not among the rows of epoch {chosen}.", param="after")
        start = int(found[0]) + 1
    page = positions[start : start + limit]
    data = [_row(*values) for values in zip(*(rows[name][page].tolist() for name in _FIELDS), first[page].tolist(), strict=True)]
    return {"object": "list", "data": data, "has_more": start + limit < len(rows), "epoch": chosen, "epochs": epochs}


def _first_losses(run_dir: Path, epoch: int, lines: np.ndarray) -> np.ndarray:
    """The loss of each line in that epoch; NaN where it has none."""
    rows = read_epoch(run_dir, epoch)
    if not len(rows):
        return np.full(len(lines), np.nan)
    at = np.minimum(np.searchsorted(rows["line"], lines), len(rows) - 1)
    return np.where(rows["line"][at] == lines, rows["loss"][at], np.nan)


def _sorted(rows: np.ndarray, first: np.ndarray, order: RowOrder) -> np.ndarray:
    if order == "line":
        return np.arange(len(rows))
    key = rows["loss"] if order == "loss" else rows["loss"] - first
    return np.argsort(-key, kind="stable")  # what has no number comes last


def _row(line: int, tokens: int, loss: float, first: float) -> dict[str, Any]:
    known = first if math.isfinite(first) else None
    return {"object": "luthier.row_loss", "line": line, "tokens": tokens, "loss": loss, "first_loss": known}
