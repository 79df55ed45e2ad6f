"""Puts tuned beside base: means, and how many answers became better, worse, or stayed the same.

What it does not: run models (``runner.py``). Called by ``evaluation/stage.py``; shown by the trace and the dashboard.
"""

from collections.abc import Sequence
from typing import Any

from luthier.core.matching import exact_match
from luthier.evaluation.runner import Question, SampleResult

# Relative change of an expected answer's loss below which two equally right (or equally wrong) answers count as the same.
SAME_LOSS_SHARE = 0.05

RULE = (
    "better: only the tuned answer matches the expected one exactly, or both or neither match and the expected answer's loss "
    f"fell by more than {SAME_LOSS_SHARE:.0%}; worse: the reverse; same: the rest"
)


def verdict(question: Question, base: SampleResult, tuned: SampleResult) -> str:
    """``better``, ``worse`` or ``same``, by ``RULE``."""
    base_right, tuned_right = exact_match(base.answer, question.expected), exact_match(tuned.answer, question.expected)
    if base_right != tuned_right:
        return "better" if tuned_right else "worse"
    change = (tuned.loss - base.loss) / max(base.loss, 1e-9)
    if abs(change) <= SAME_LOSS_SHARE:
        return "same"
    return "better" if change < 0 else "worse"


def _means(questions: Sequence[Question], results: Sequence[SampleResult]) -> dict[str, float]:
    num_tokens = max(sum(r.num_tokens for r in results), 1)
    hits = sum(exact_match(r.answer, q.expected) for q, r in zip(questions, results, strict=True))
    return {
        "loss": sum(r.loss * r.num_tokens for r in results) / num_tokens,
        "accuracy": sum(r.num_correct for r in results) / num_tokens,
        "exact_match": hits / len(results),
    }


def build_report(
    questions: Sequence[Question],
    base: Sequence[SampleResult],
    tuned: Sequence[SampleResult],
    *,
    num_samples: int = 50,
    verdicts: Sequence[str] | None = None,
    rule: str = RULE,
) -> dict[str, Any]:
    """The report that is kept with the job. ``verdicts`` and their ``rule`` where they do not follow from the answers.

    Returns:
        ``n``, ``rule``, ``base`` and ``tuned`` (token-weighted ``loss`` in nats, ``accuracy``, ``exact_match`` share),
        ``better`` / ``worse`` / ``same`` counts, and up to ``num_samples`` of the single answers.
    """
    if verdicts is None:
        verdicts = [verdict(q, b, t) for q, b, t in zip(questions, base, tuned, strict=True)]
    samples = [
        {
            "line": q.line,
            "prompt": str(q.asked[-1].get("content", "")),
            "expected": q.expected,
            "base": b.answer,
            "tuned": t.answer,
            "base_loss": b.loss,
            "tuned_loss": t.loss,
            "verdict": v,
        }
        for q, b, t, v in zip(questions, base, tuned, verdicts, strict=True)
    ]
    return {
        "n": len(questions),
        "rule": rule,
        "base": _means(questions, base),
        "tuned": _means(questions, tuned),
        "better": verdicts.count("better"),
        "worse": verdicts.count("worse"),
        "same": verdicts.count("same"),
        "samples": samples[:num_samples],
    }
