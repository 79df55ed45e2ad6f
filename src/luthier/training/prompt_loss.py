"""The supervised loss with a share for prompts: their tokens count too, with a weight (Huerta-Enochian and Ko 2024, arXiv:2401.13586).

    loss = sum of weight * nll over all tokens that count / (answer tokens + prompt_loss_weight * prompt tokens)

What it does: this loss, and which tokens of a row are its prompt. Greedy hits and losses by row stay those of the answers. What it does
not: measure; held-out rows are measured by the answers alone (``methods.measured_by``). Called through ``methods.py``.

Axis letters: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from luthier.core.conversation import Role
from luthier.core.tokens import Rendered, TokenKind
from luthier.models.language_model import LanguageModel
from luthier.training.objective import LossSums
from luthier.training.sft import SupervisedObjective, sft_sums
from luthier.training.tokens import TokenSource


class PromptedObjective(SupervisedObjective):
    """See ``Objective``."""

    def __init__(self, weight: float) -> None:
        """``weight``: of a prompt's token beside 1 of an answer's; above 0."""
        self._weight = weight

    def count(self, source: TokenSource, rows: Sequence[int]) -> float:
        """Trained tokens, and the weight times the prompts' tokens."""
        prompts = sum(int(np.count_nonzero(prompt_tokens(source.examples[row].rendered))) for row in rows)
        return super().count(source, rows) + self._weight * prompts

    def sums(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> LossSums:
        """One forward; the head sees prompts too."""
        batch = source.batch(rows)
        weights_BT = batch.weights_BT.copy()
        for row, weights_T in zip(rows, weights_BT, strict=True):
            rendered = source.examples[row].rendered
            weights_T[: len(rendered.ids_T)][prompt_tokens(rendered)] = self._weight
        return replace(sft_sums(model, batch, weights_BT), count=self.count(source, rows))


def prompt_tokens(rendered: Rendered) -> np.ndarray:
    """(T,) bool: tokens of what others than the assistant say, but the first token, which nothing predicts.

    The template's own marks are alike in all rows and are not among them; nor is an assistant's message of weight 0, which is to teach
    nothing.
    """
    chosen_T = np.zeros(len(rendered.ids_T), dtype=bool)
    for span in rendered.spans:
        if span.kind is TokenKind.CONTEXT and span.role != Role.ASSISTANT.value:
            chosen_T[span.start : span.end] = True
    chosen_T[:1] = False
    return chosen_T
