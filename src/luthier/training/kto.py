"""Kahneman-Tversky optimisation: each answer is good or bad by itself, and surprise counts less the larger it is.

Ethayarajh et al. 2024 (arXiv:2402.01306), with both answers of a pair as one desirable and one undesirable example and
lambda_D = lambda_U = 1. With an answer's reward r = beta * (log pi(y|x) - log ref(y|x)):

    desirable: loss = 1 - sigmoid(r - z0)        undesirable: loss = 1 - sigmoid(z0 - r)
    z0 = max(0, mean over the step's rows of beta * (log pi(y'|x) - log ref(y'|x)))        without a gradient

z0, the reference point, estimates beta times the KL divergence of the model from its reference, on prompts x beside answers y' of other
rows. Which answers these are is fixed for the whole data set (``TokenSource.mismatched``), so that their reference is measured once too,
and z0 depends on a step's pairs alone and not on how the step is cut.

What it does: the loss, z0. What it does not: the reference and the rewards (``against_reference.py``). Called through ``methods.py``.
"""

from collections.abc import Generator, Sequence
from functools import partial

import torch
from torch import Tensor

from luthier.models.language_model import LanguageModel
from luthier.training.against_reference import ReferenceObjective
from luthier.training.evaluate import forward_groups
from luthier.training.objective import Objective
from luthier.training.sft import room_on
from luthier.training.tokens import TokenSource


class KtoObjective(ReferenceObjective):
    """See ``Objective``. By itself, before ``for_examples``, it has the reference point of the start: 0."""

    def __init__(self, beta: float, max_length: int) -> None:
        """``max_length``: of a row, in tokens; prompts beside answers of other rows are cut to it."""
        super().__init__(beta, kto_loss)
        self._max_length = max_length
        self._mismatched: list[tuple[TokenSource, TokenSource]] = []

    def _beside(self, sources: Sequence[TokenSource]) -> Sequence[TokenSource]:
        self._mismatched = [(source, source.mismatched(self._max_length)) for source in sources]
        return [other for _, other in self._mismatched]

    def for_examples(self, model: LanguageModel, source: TokenSource, examples: Sequence[int]) -> Generator[None, None, Objective]:
        """With the reference point of these pairs: one more row for each of theirs is read, without gradients."""
        other = next(other for owner, other in self._mismatched if owner is source)
        total = torch.zeros((), dtype=torch.float64, device=model.device)
        for group in forward_groups(other, examples, model.facts, room_on(model)):
            total += self._log_ratios(model, other, group).double().sum()
            yield
        # It stays a tensor: on a GPU reading it would wait for all that was asked of it.
        mean = total / (len(examples) * other.rows_per_example)
        return self._with(partial(kto_loss, z0=(self._beta * mean).clamp(min=0).float()))


def kto_loss(rewards_P2: Tensor, z0: Tensor | float = 0.0) -> Tensor:
    """(P,), without a unit, from 0 to 1: the mean over a pair's two examples. One half where rewards and reference point are 0.

    Args:
        rewards_P2: the preferred answer's first.
        z0: the reference point, a scalar without a gradient, 0 or more.
    """
    return ((z0 - rewards_P2[:, 0]).sigmoid() + (rewards_P2[:, 1] - z0).sigmoid()) / 2
