"""What objectives share that pay for leaving a reference: its log-probabilities, and rewards against them.

A reward is beta times an answer's log-ratio: ``beta * (log pi(y|x) - log ref(y|x))``. The reference is the model as tuning starts from it;
its log-probabilities are measured once, so that a single copy of the weights is enough.

What it does: the reference, one forward over pairs, the rewards. What it does not: know the loss of a pair (``dpo.py``, ``kto.py``), cut
batches or divide (``loop.py`` divides once, by the step's pairs). Called through ``methods.py``.

Axis letters: B rows, P pairs (rows 2p and 2p + 1: the preferred answer first).
"""

from collections.abc import Callable, Generator, Sequence
from copy import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor

from luthier.models.language_model import LanguageModel
from luthier.training.evaluate import forward_groups, only_reading
from luthier.training.hooks import TrainerHooks
from luthier.training.objective import LossSums, Objective, Totals
from luthier.training.pairs import AnswerScores, pair_means, pair_sums, score_answers
from luthier.training.reference import ReferenceStore, Scored, score_reference
from luthier.training.sft import room_on
from luthier.training.tokens import TokenSource, num_examples
from luthier.training.turns import Turns, at_once

PairLoss = Callable[[Tensor], Tensor]
"""(P, 2) float32 rewards, the preferred answer's first, to (P,) losses in nats, or without a unit where they are no log-likelihoods."""


class ReferenceObjective:
    """See ``Objective``. Sources give pairs: ``rows_per_example`` is 2."""

    def __init__(self, beta: float, pair_loss: PairLoss) -> None:
        """``beta``: how dearly leaving the reference is paid; above 0."""
        self._beta = beta
        self._pair_loss = pair_loss
        self._known: list[tuple[TokenSource, AnswerScores]] = []

    def prepare(
        self, model: LanguageModel, sources: Sequence[TokenSource], *, adapter: str | None, store: ReferenceStore, hooks: TrainerHooks
    ) -> Turns[bool]:
        """Measure the reference, or read it back."""
        room, read = room_on(model), [*sources, *self._beside(sources)]
        groups = [(number, group) for number, source in enumerate(read) for group in forward_groups(source, None, model.facts, room)]

        def score(number: int, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
            with only_reading(model), model.use_adapter(adapter):
                scores = score_answers(model, read[number].batch(rows))
            return scores.logps_B.cpu().numpy(), scores.hits_B.cpu().numpy()

        total = sum(map(num_examples, sources))
        scored = yield from score_reference(read, groups, score, total=total, store=store, hooks=hooks)
        if scored is None:
            return False
        self._keep(read, scored)
        return True

    def assume(self, sources: Sequence[TokenSource]) -> None:
        """A reference of zeros."""
        read = [*sources, *self._beside(sources)]
        rows = sum(len(source.examples) for source in read)
        self._keep(read, Scored(np.zeros(rows, np.float32), np.zeros(rows, np.int64)))

    def _beside(self, sources: Sequence[TokenSource]) -> Sequence[TokenSource]:
        """Further rows whose reference the loss needs."""
        return ()

    def _keep(self, sources: Sequence[TokenSource], scored: Scored) -> None:
        start = 0
        for source in sources:
            part = slice(start, start := start + len(source.examples))
            tokens = np.array([example.rendered.num_trained for example in source.examples], dtype=np.int64)
            scores = AnswerScores(torch.from_numpy(scored.logps_R[part]), torch.from_numpy(scored.hits_R[part]), tokens)
            self._known.append((source, scores))

    def count(self, source: TokenSource, rows: Sequence[int]) -> int:
        """Pairs."""
        return len(rows) // source.rows_per_example

    def for_examples(self, model: LanguageModel, source: TokenSource, examples: Sequence[int]) -> Generator[None, None, Objective]:
        """Each pair counts by itself."""
        return at_once(self)

    def sums(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> LossSums:
        """One forward over both answers of some pairs."""
        return self._compare(score_answers(model, source.batch(rows)), self._reference(source, rows).logps_B)

    def means(self, parts: Sequence[float], count: float) -> dict[str, float] | None:
        """Rewards, margin, accuracy and likelihoods."""
        return pair_means(parts, count)

    def at_start(self, source: TokenSource, rows: Sequence[int]) -> Totals | None:
        """The reference beside itself: every reward is 0."""
        reference = self._reference(source, rows)
        return Totals().plus(self._compare(reference, reference.logps_B))

    def _log_ratios(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> Tensor:
        """(B,) nats, one forward: ``log pi(y|x) - log ref(y|x)`` of some rows, without gradients."""
        with only_reading(model):
            scores = score_answers(model, source.batch(rows))
        return scores.logps_B - self._reference(source, rows).logps_B.to(scores.logps_B.device)

    def _with(self, pair_loss: PairLoss) -> Self:
        """The same with another loss; what was measured is shared."""
        other = copy(self)
        other._pair_loss = pair_loss
        return other

    def _reference(self, source: TokenSource, rows: Sequence[int]) -> AnswerScores:
        known = next(scores for owner, scores in self._known if owner is source)
        chosen = torch.as_tensor(rows, dtype=torch.int64)
        return AnswerScores(known.logps_B[chosen], known.hits_B[chosen], known.tokens_B[chosen.numpy()])

    def _compare(self, scores: AnswerScores, reference_B: Tensor) -> LossSums:
        rewards_B = self._beta * (scores.logps_B - reference_B.to(scores.logps_B.device))
        return pair_sums(scores, self._pair_loss(rewards_B.view(-1, 2)), rewards_B)
