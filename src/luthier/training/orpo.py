"""Odds-ratio preference optimisation: imitating the preferred answer while the other one's odds fall, without a reference.

Hong et al. 2024 (arXiv:2403.07691), equations 3 to 7. With p(y) the geometric mean of the probabilities of an answer's tokens, a pair of
answers w (preferred) and l to x, and beta, which the paper calls lambda:

    odds(y) = p(y) / (1 - p(y))
    loss    = -log p(w) - beta * log sigmoid(log odds(w) - log odds(l))

``-log p(w)`` is the mean loss of the preferred answer's own tokens, as in the paper; TRL's takes the prompt's tokens too. A reward is
beta * log p(y), as TRL has it.

What it does: the loss and its rewards. What it does not: cut batches or divide (``loop.py`` divides once, by the step's pairs). Called
through ``methods.py``.

Axis letters: B rows, P pairs (rows 2p and 2p + 1: the preferred answer first).
"""

from collections.abc import Generator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from luthier.models.language_model import LanguageModel
from luthier.training.hooks import TrainerHooks
from luthier.training.objective import LossSums, Objective, Totals
from luthier.training.pairs import pair_means, pair_sums, score_answers
from luthier.training.reference import ReferenceStore
from luthier.training.tokens import TokenSource
from luthier.training.turns import Turns, at_once

# Below 0 by one rounding of a probability in float32: an answer of which every token is certain has no finite odds.
_NEARLY_CERTAIN = -(2.0**-24)


class OrpoObjective:
    """See ``Objective``. Sources give pairs: ``rows_per_example`` is 2."""

    def __init__(self, beta: float) -> None:
        """``beta``: the weight of the odds ratio beside the preferred answer's loss; above 0."""
        self._beta = beta

    def prepare(
        self, model: LanguageModel, sources: Sequence[TokenSource], *, adapter: str | None, store: ReferenceStore, hooks: TrainerHooks
    ) -> Turns[bool]:
        """Nothing needs to be known of the start."""
        return at_once(True)

    def assume(self, sources: Sequence[TokenSource]) -> None:
        """Nothing needs to be known of the start."""

    def count(self, source: TokenSource, rows: Sequence[int]) -> int:
        """Pairs."""
        return len(rows) // source.rows_per_example

    def for_examples(self, model: LanguageModel, source: TokenSource, examples: Sequence[int]) -> Generator[None, None, Objective]:
        """Each pair counts by itself."""
        return at_once(self)

    def sums(self, model: LanguageModel, source: TokenSource, rows: Sequence[int]) -> LossSums:
        """One forward over both answers of some pairs."""
        scores = score_answers(model, source.batch(rows))
        means_B = scores.logps_B / torch.as_tensor(scores.tokens_B, device=scores.logps_B.device)
        return pair_sums(scores, orpo_loss(means_B.view(-1, 2), self._beta), self._beta * means_B)

    def means(self, parts: Sequence[float], count: float) -> dict[str, float] | None:
        """Rewards, margin, accuracy and likelihoods."""
        return pair_means(parts, count)

    def at_start(self, source: TokenSource, rows: Sequence[int]) -> Totals | None:
        """Nothing was measured."""
        return None


def orpo_loss(means_P2: Tensor, beta: float) -> Tensor:
    """Nats, (P,), from the mean log-probabilities of the tokens of preferred and other answers, (P, 2)."""
    below_P2 = means_P2.clamp(max=_NEARLY_CERTAIN)
    odds_P2 = below_P2 - torch.log(-torch.expm1(below_P2))
    return -means_P2[:, 0] - beta * F.logsigmoid(odds_P2[:, 0] - odds_P2[:, 1])
