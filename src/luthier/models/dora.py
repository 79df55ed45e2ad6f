"""What DoRA adds to a low-rank adapter (Liu et al. 2024, arXiv:2402.09353): every row of a matrix has a length that learns.

    W' = m * (W + s B A) / n        n: the L2 norm of each row of W + s B A        m: begins as the norm of W's rows

What it does: the lengths m of one fused projection in all layers, as one vector that learns, and from them the share by which each output
grows, m / n - 1. The norm n is a constant on the way back, as in section 4.3 of the paper and in peft, and is found without making
W + s B A:  n^2 = ||w||^2 + 2 w . (s B A) + ||s B A||^2  by row, of which the first never changes while the base is frozen.
What it does not: multiply by anything else, read or write files. Called by ``lora.py``.

Axis letters: L layers, O outputs of the fused matrix, R its adapters' ranks together, I inputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from luthier.core.errors import InvalidRequest
from luthier.models.matrix import Matrix

ZERO_ROWS = "DoRA divides by the length of each row of a matrix, and this base model has a row of zeros in {}."


class Magnitudes:
    """The lengths of the adapted rows of one fused projection."""

    def __init__(self, matrices: Sequence[Matrix], sizes: Sequence[int], adapted: Sequence[int], names: Sequence[str]) -> None:
        """Those of the base itself.

        Args:
            matrices: the fused matrix of each layer, frozen.
            sizes: outputs of the projections in it.
            adapted: which of them have an adapter.
            names: of the projections, for the message.

        Raises:
            InvalidRequest: an adapted row is zero, so that it has no direction.
        """
        self._matrices = tuple(matrices)
        self._squared_LO = torch.stack([matrix.squared_rows() for matrix in matrices])
        parts = self._squared_LO.split(list(sizes), dim=1)
        for i in adapted:
            if bool((parts[i] == 0).any()):
                raise InvalidRequest(ZERO_ROWS.format(names[i]))
        self._sizes = [sizes[i] for i in adapted]
        chosen = [torch.arange(sum(sizes[:i]), sum(sizes[: i + 1])) for i in adapted]
        self._rows = None if len(adapted) == len(sizes) else torch.cat(chosen).to(self._squared_LO.device)
        # Flat, for it is many vectors and no matrix: an optimiser's weight decay leaves it alone.
        self.parameter = nn.Parameter(self._of_adapted(self._squared_LO.sqrt()).flatten())

    def gains(self, a_LRI: Tensor, b_LOR: Tensor) -> Tensor:
        """(L, O) float32: m / n - 1, zero where nothing is adapted; differentiable in m alone.

        Args:
            a_LRI: the stacked A, in the number format of the base.
            b_LOR: the scaled B on the diagonal of one matrix, likewise.
        """
        with torch.no_grad():
            b = b_LOR.float()
            crossed = torch.stack([matrix.times(a) for matrix, a in zip(self._matrices, a_LRI.unbind(0), strict=True)])
            wide = a_LRI.float()
            added = torch.baddbmm(crossed.float().transpose(1, 2), b, wide @ wide.transpose(1, 2), beta=2.0)
            norm = (self._squared_LO + (added * b).sum(-1)).sqrt()
        own = self.parameter.view(norm.shape[0], -1) / self._of_adapted(norm) - 1.0
        return own if self._rows is None else torch.zeros_like(norm).index_copy(1, self._rows, own)

    def parts(self, layer: int) -> tuple[Tensor, ...]:
        """The lengths of each adapted projection in one layer: views that can be written."""
        return self.parameter.data.view(self._squared_LO.shape[0], -1)[layer].split(self._sizes)

    def _of_adapted(self, values_LO: Tensor) -> Tensor:
        return values_LO if self._rows is None else values_LO.index_select(1, self._rows)
