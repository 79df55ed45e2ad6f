"""Log-probabilities of whole answers, and the metrics of pairs of them: what every objective on preferences shares.

What it does: one forward over pairs, sums by row and by pair. What it does not: know a loss (``dpo.py``, ``kto.py``,
``orpo.py``). Called by the objectives on preferences.

Axis letters: B rows of a batch, P pairs (rows 2p and 2p + 1: the preferred answer first), T tokens, N trained positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from luthier.core.tokens import TokenBatch
from luthier.models.language_model import LanguageModel
from luthier.training.objective import LossSums


@dataclass(frozen=True, slots=True, eq=False)
class AnswerScores:
    """A model's view of answers. (B,) each."""

    logps_B: Tensor
    """float32, nats: the log-probabilities of the answer's tokens, summed; carries the gradient."""
    hits_B: Tensor
    """int64 greedy hits."""
    tokens_B: np.ndarray
    """int64 tokens of the answer."""


def score_answers(model: LanguageModel, batch: TokenBatch) -> AnswerScores:
    """One forward; an answer is the row's trained tokens. Every answer token counts once, whatever its weight."""
    rows, columns = np.nonzero(batch.weights_BT)
    ids_BT = torch.from_numpy(batch.ids_BT)
    rows_N, columns_N = torch.from_numpy(rows), torch.from_numpy(columns)
    targets_N = ids_BT[rows_N, columns_N]
    losses_N, hits_N = model.token_losses_at(ids_BT, torch.from_numpy(batch.lengths_B), rows_N, columns_N - 1, targets_N)
    # Sums along a padded table: on a GPU the order of ``index_add`` is chance, and with it the last bits.
    at = (rows_N.to(losses_N.device), columns_N.to(losses_N.device))
    losses_BT = losses_N.new_zeros(ids_BT.shape).index_put(at, losses_N)
    hits_BT = hits_N.new_zeros(ids_BT.shape).index_put(at, hits_N)
    return AnswerScores(-losses_BT.sum(dim=1), hits_BT.sum(dim=1), np.count_nonzero(batch.weights_BT, axis=1))


def pair_sums(scores: AnswerScores, losses_P: Tensor, rewards_B: Tensor) -> LossSums:
    """The sums of some pairs.

    Args:
        scores: of their rows.
        losses_P: of each pair.
        rewards_B: of each answer, as the objective means it.
    """
    rewards_P2, logps_P2 = (values.detach().double().view(-1, 2) for values in (rewards_B, scores.logps_B))
    better, worse = rewards_P2.unbind(1)
    likely, other = logps_P2.unbind(1)
    parts = torch.stack([t.sum() for t in (better, worse, _above(better, worse), likely, other, _above(likely, other))])
    preferred = scores.tokens_B[::2]
    return LossSums(
        loss=losses_P.sum(),
        count=losses_P.shape[0],
        num_tokens=int(scores.tokens_B.sum()),
        num_scored=int(preferred.sum()),
        num_correct=scores.hits_B[::2].sum(),
        parts=parts,
    )


def _above(a_P: Tensor, b_P: Tensor) -> Tensor:
    """1 where a is the greater, 0 where b is; equals, as all rewards are before the first step, count half."""
    return (torch.sign(a_P - b_P) + 1) / 2


def pair_means(parts: Sequence[float], count: float) -> dict[str, float] | None:
    """The metrics of ``count`` pairs from the parts of their sums; names as ``trace.events.StepDone.preference`` has them."""
    if not parts or not count:
        return None
    chosen, rejected, wins, likely, other, prefers = (part / count for part in parts)
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": wins,
        "logp_chosen": likely,
        "logp_rejected": other,
        "prefers": prefers,
    }
