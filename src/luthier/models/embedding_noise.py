"""Noise on a model's input embeddings, for each row from a seed of its own.

NEFTune (Jain et al. 2023, arXiv:2310.05914): a row of T tokens and width h gets numbers that are uniform in [-1, 1] times
alpha / sqrt(T * h); their norm is about alpha / sqrt(3) whatever the row's length.

What it does: makes the noise of each row, which depends neither on the rows beside it nor on padding nor on what was drawn before. What
it does not: choose the seeds, or say when there is noise (``training/noise.py`` does both). Called by ``decoder.py`` and
``transformers_model.py``.

Axis letters: B rows, T tokens, h width, N tokens of all rows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class EmbeddingNoise:
    """The noise of one forward."""

    alpha: float
    seeds: tuple[int, ...]
    """Of each row, 0 to 2^63 - 1."""

    def on_padded(self, x_BTh: Tensor, lengths: Sequence[int]) -> Tensor:
        """Embeddings of rows side by side, with noise on their own tokens; padding has none."""
        noise_BTh = torch.zeros_like(x_BTh, requires_grad=False)
        for row_Th, noise_Th in zip(noise_BTh, self._rows(x_BTh, lengths), strict=True):
            row_Th[: len(noise_Th)] = noise_Th
        return x_BTh + noise_BTh

    def on_flat(self, x_Nh: Tensor, lengths: Sequence[int]) -> Tensor:
        """Embeddings of rows end to end, with noise."""
        return x_Nh + torch.cat(list(self._rows(x_Nh, lengths))).to(x_Nh.dtype)

    def _rows(self, like: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        """float32 (T, h) of each row."""
        generator, width = torch.Generator(like.device), like.shape[-1]
        for seed, length in zip(self.seeds, lengths, strict=True):
            bound = self.alpha / math.sqrt(length * width)
            drawn = torch.rand((length, width), generator=generator.manual_seed(seed), device=like.device)
            yield drawn.mul_(2.0 * bound).sub_(bound)
