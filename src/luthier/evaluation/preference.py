"""Which of two answers a model finds likelier, and by how much more than its reference does.

What it does: log-probabilities of both answers of held-out pairs through the engine, means and verdicts over them. What it does not:
ask for answers (``runner.py``). Called by ``stage.py``.

A reward is beta times an answer's log-ratio to the reference (Rafailov et al. 2023, arXiv:2305.18290); where the loss has none, as ORPO's,
beta times the mean log-probability of the answer's tokens (Hong et al. 2024, arXiv:2403.07691).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.engine_messages import EnginePort, Score, Scores
from luthier.core.generation import ModelTarget
from luthier.evaluation.runner import Question

SAME_MARGIN_SHARE = 0.05
"""Relative change of a pair's margin, of at least one nat, up to which both models are taken to like the preferred answer equally."""
RULE = (
    "better: only the tuned model finds the preferred answer the likelier one, or both or neither do and it leads by more (or lags by "
    f"less) than in the base by over {SAME_MARGIN_SHARE:.0%}; worse: the reverse; same: the rest"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSetting:
    """What rewards are measured against."""

    reference: ModelTarget | None
    """The model that tuning started from; None where the loss has no reference."""
    beta: float


@dataclass(frozen=True, slots=True)
class PairScore:
    """One model's log-probabilities of a pair's whole answers, nats, and their tokens."""

    preferred: float
    other: float
    preferred_tokens: int
    other_tokens: int

    @property
    def lead(self) -> float:
        """By how much the preferred answer is the likelier one."""
        return self.preferred - self.other


def score_pairs(engine: EnginePort, target: ModelTarget, questions: Sequence[Question], *, max_length: int) -> list[PairScore]:
    """Both answers of every question, in the questions' order."""
    both = [conversation for q in questions for conversation in (q.whole, q.other or ())]
    reply = engine.request(Score(target=target, conversations=tuple(both), max_length=max_length))
    assert isinstance(reply, Scores)
    logps = [-float(entry["loss_sum"]) for entry in reply.entries]
    tokens = [int(entry["num_tokens"]) for entry in reply.entries]
    return [PairScore(logps[at], logps[at + 1], tokens[at], tokens[at + 1]) for at in range(0, len(logps), 2)]


def verdict(base: PairScore, tuned: PairScore) -> str:
    """``better``, ``worse`` or ``same``, by ``RULE``."""
    if (base.lead > 0) != (tuned.lead > 0):
        return "better" if tuned.lead > 0 else "worse"
    change = tuned.lead - base.lead
    if abs(change) <= SAME_MARGIN_SHARE * max(1.0, abs(base.lead)):
        return "same"
    return "better" if change > 0 else "worse"


def preference_report(
    reference: Sequence[PairScore] | None, base: Sequence[PairScore], tuned: Sequence[PairScore], setting: PreferenceSetting
) -> dict[str, Any]:
    """``n``, ``beta``, ``reference`` (its name, or None), and for ``base`` and ``tuned``: ``prefers`` (share of pairs whose preferred
    answer is the likelier one), ``logp_chosen``, ``logp_rejected``, and the rewards: ``reward_chosen``, ``reward_rejected``,
    ``reward_margin``, ``reward_accuracy``. Equal answers count half."""
    return {
        "n": len(tuned),
        "beta": setting.beta,
        "reference": None if setting.reference is None else setting.reference.name,
        "base": _means(base, reference, setting.beta),
        "tuned": _means(tuned, reference, setting.beta),
    }


def _means(scores: Sequence[PairScore], reference: Sequence[PairScore] | None, beta: float) -> dict[str, float]:
    n = len(scores)
    if reference is None:
        rewards = [(s.preferred / max(1, s.preferred_tokens), s.other / max(1, s.other_tokens)) for s in scores]
    else:
        rewards = [(s.preferred - r.preferred, s.other - r.other) for s, r in zip(scores, reference, strict=True)]
    chosen, rejected = (beta * sum(side) / n for side in zip(*rewards, strict=True))
    return {
        "prefers": sum(_half(s.lead) for s in scores) / n,
        "logp_chosen": sum(s.preferred for s in scores) / n,
        "logp_rejected": sum(s.other for s in scores) / n,
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": sum(_half(better - worse) for better, worse in rewards) / n,
    }


def _half(lead: float) -> float:
    return 1.0 if lead > 0 else 0.0 if lead < 0 else 0.5
