"""What DoRA adds to a low-rank adapter: every row of a matrix has a length that learns.

Liu et al. 2024, arXiv:2402.09353:

    W' = m * (W + s B A) / n        n: the L2 norm of each row of W + s B A        m: begins as the norm of W's rows

What it does: the lengths m of one fused projection in all layers, as one vector that learns, and from them the share by which each output
grows, m / n - 1. The norm n is a constant on the way back, as in section 4.3 of the paper and in peft, and is found without making
W + s B A:  n^2 = ||w||^2 + 2 w . (s B A) + ||s B A||^2  by row, of which the first never changes while the base is frozen.
What it does not: multiply by anything else, read or write files. Called by ``lora.py``.

Axis letters: L layers, O outputs of the fused matrix or of one projection in it, A those that are adapted, r the rank, R the ranks of a
fused matrix together, I inputs.
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
        squared_LO = torch.stack([matrix.squared_rows() for matrix in matrices])
        parts = squared_LO.split(list(sizes), dim=1)
        for i in adapted:
            if bool((parts[i] == 0).any()):
                raise InvalidRequest(ZERO_ROWS.format(names[i]))
        self._num_outputs = sum(sizes)
        self._places = [(sum(sizes[:i]), sum(sizes[: i + 1])) for i in adapted]
        # Flat, for it is many vectors and no matrix: an optimiser's weight decay leaves it alone.
        self.parameter = nn.Parameter(torch.cat([squared_LO[:, a:b].sqrt() for a, b in self._places], dim=1).flatten())
        self._squared = [squared_LO[:, a:b].contiguous() for a, b in self._places]

    def gains(self, a_LRI: Tensor, parts_LOr: Sequence[Tensor]) -> Tensor:
        """(L, O) float32: m / n - 1, zero where nothing is adapted; differentiable in m alone.

        Args:
            a_LRI: the stacked A in the number format of the base.
            parts_LOr: the scaled B of each adapted projection, likewise.
        """
        norms = []
        with torch.no_grad():
            rank = a_LRI.shape[1] // len(parts_LOr)
            crossed = [self._crossed(matrix, a_RI, rank) for matrix, a_RI in zip(self._matrices, a_LRI.unbind(0), strict=True)]
            for at, (b, squared) in enumerate(zip(parts_LOr, self._squared, strict=True)):
                a, b = a_LRI[:, at * rank : (at + 1) * rank].float(), b.float()
                both = torch.baddbmm(torch.stack([products[at] for products in crossed]).float(), b, a @ a.transpose(1, 2), beta=2.0)
                norms.append((squared + (both * b).sum(-1)).sqrt())
        own = self.parameter.view(len(self._matrices), -1) / torch.cat(norms, dim=1) - 1.0
        return own if own.shape[1] == self._num_outputs else self._padded(own)

    def parts(self, layer: int) -> tuple[Tensor, ...]:
        """The lengths of each adapted projection in one layer: views that can be written."""
        return self.parameter.data.view(len(self._matrices), -1)[layer].split([b - a for a, b in self._places])

    def _crossed(self, matrix: Matrix, a_RI: Tensor, rank: int) -> list[Tensor]:
        """W A^T of each adapted projection. One matrix at a time: those in 4 bits are unpacked into one place. Rows of the weight, and
        not of its copy in another layout: that has no rows, and all of it would be multiplied for each part."""
        weight = matrix.numbers()
        return [weight[a:b] @ a_RI[at * rank : (at + 1) * rank].t() for at, (a, b) in enumerate(self._places)]

    def _padded(self, own_LA: Tensor) -> Tensor:
        """(L, O): zeros where nothing is adapted."""
        whole = own_LA.new_zeros(len(self._matrices), self._num_outputs)
        rows = torch.cat([torch.arange(a, b, device=own_LA.device) for a, b in self._places])
        return whole.index_copy(1, rows, own_LA)
