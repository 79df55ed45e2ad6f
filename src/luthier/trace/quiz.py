"""Three questions about one run, out of its own numbers, each with wrong answers that are plausible because they are numbers of it too.

What it does: a table of questions; the first three that the run can answer are asked. The right answer stands on the page, and the question
names where. What it does not: invent a number: a question without two wrong answers that the run itself offers is not asked. Pure and
repeatable: the order of the answers follows from the run's id. Called by ``api/job_view.py`` and the saved page.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from luthier.trace.view import TraceView

QUESTIONS = 3
_MOST_WRONG = 3
_FEWEST_WRONG = 2
_LONGEST_TEXT = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question before its answers are mixed."""

    id: str
    text: str
    right: str
    wrong: tuple[str, ...]
    explanation: str
    view: str
    anchor: str


def quiz_of(view: TraceView) -> dict[str, Any] | None:
    """``{"questions": [...], "note"}``; None before the first epoch is over.

    ``note`` says why there are fewer than three, else it is None.
    """
    if not view.epochs:
        return None
    found = [question for ask in _TABLE if (question := ask(view)) is not None][:QUESTIONS]
    note = None if len(found) == QUESTIONS else f"This run has numbers for {len(found)} of {QUESTIONS} questions so far."
    return {"questions": [_mixed(view.run or "", question) for question in found], "note": note}


def _mixed(run: str, question: Question) -> dict[str, Any]:
    answers = [{"text": question.right, "correct": True}, *({"text": text, "correct": False} for text in question.wrong)]
    random.Random(f"{run} {question.id}").shuffle(answers)
    return {
        "id": question.id,
        "question": question.text,
        "answers": answers,
        "explanation": question.explanation,
        "view": question.view,
        "anchor": question.anchor,
    }


def _wrong(right: str, offered: Iterable[str]) -> tuple[str, ...] | None:
    """Up to three different ones; None when there are too few to choose among."""
    different = tuple(dict.fromkeys(text for text in offered if text and text != right))[:_MOST_WRONG]
    return different if len(different) >= _FEWEST_WRONG else None


def _best_epoch(view: TraceView) -> Question | None:
    held_out = {row.epoch: row.valid_loss for row in view.ordered_epochs() if row.valid_loss is not None}
    if not held_out:
        return None
    best = min(held_out, key=lambda epoch: held_out[epoch])
    wrong = _wrong(f"Epoch {best}", (f"Epoch {epoch}" for epoch in sorted(held_out, key=lambda e: held_out[e])))
    if wrong is None:
        return None
    return Question(
        id="best_epoch",
        text="After which epoch was the held-out loss lowest?",
        right=f"Epoch {best}",
        wrong=wrong,
        explanation=f"It was {held_out[best]:.3f} then; the epoch table shows the others.",
        view="training",
        anchor=f"epoch-{best}",
    )


def _tuned_answer(view: TraceView) -> Question | None:
    samples = (view.evaluation or {}).get("samples") or []
    for number, sample in enumerate(samples, start=1):
        right, prompt = str(sample["tuned"]).strip(), str(sample["prompt"])
        others = (str(other["tuned"]).strip() for other in samples if other is not sample)
        offered = [str(sample["base"]).strip(), str(sample["expected"]).strip(), *others]
        wrong = _wrong(right, offered)
        if not right or wrong is None or len(prompt) > _LONGEST_TEXT or any(len(text) > _LONGEST_TEXT for text in (right, *wrong)):
            continue
        base = str(sample["base"]).strip()
        return Question(
            id="tuned_answer",
            text=f"What does the tuned model answer to this prompt that it was not trained on? “{prompt}”",
            right=right,
            wrong=wrong,
            explanation=f"The base said “{base}”." if base and len(base) <= _LONGEST_TEXT else "The base answered something else.",
            view="compare",
            anchor=f"sample-{sample.get('line', number)}",
        )
    return None


def _better(view: TraceView) -> Question | None:
    report = view.evaluation
    if not report or not report.get("n"):
        return None
    n, better, worse, same = (int(report[name]) for name in ("n", "better", "worse", "same"))
    tuned_right = round(report["tuned"]["exact_match"] * n)
    right = f"{better} of {n}"
    wrong = _wrong(right, (f"{count} of {n}" for count in (tuned_right, worse, same, n - better, n)))
    if wrong is None:
        return None
    return Question(
        id="better",
        text="On how many of the held-out examples is the tuned model better than its base?",
        right=right,
        wrong=wrong,
        explanation=f"It is worse on {worse} and the same on {same}.",
        view="compare",
        anchor="view-title",
    )


def _share_trained(view: TraceView) -> Question | None:
    forecast = view.forecast or {}
    tokens, trained = forecast.get("tokens_per_epoch"), forecast.get("trained_per_epoch")
    if not tokens or not trained or tokens == trained:
        return None
    epochs = len(view.epochs)
    offered = (tokens, tokens - trained, trained * epochs, forecast.get("examples") or 0)
    wrong = _wrong(f"{trained:,}", (f"{count:,}" for count in offered if count))
    if wrong is None:
        return None
    return Question(
        id="trained_tokens",
        text=f"The training rows are {tokens:,} tokens. How many of them count in the loss?",
        right=f"{trained:,}",
        wrong=wrong,
        explanation="Only what the assistant says is learned; the rest is read as context.",
        view="story",
        anchor="stage-data_preprocessing",
    )


def _parameters(view: TraceView) -> Question | None:
    spec = view.spec
    if spec is None or spec.trainable_parameters == spec.total_parameters:
        return None
    trainable, total = spec.trainable_parameters, spec.total_parameters
    saved = [checkpoint.bytes for checkpoint in view.checkpoints.values()]
    right = f"{trainable:,}"
    wrong = _wrong(right, (f"{count:,}" for count in (total, total - trainable, *saved[-1:])))
    if wrong is None:
        return None
    return Question(
        id="parameters",
        text="How many numbers of the model learned?",
        right=right,
        wrong=wrong,
        explanation=f"That is {trainable / total:.1%} of {total:,}; the base stays as it is.",
        view="training",
        anchor="decisions",
    )


def _fall(view: TraceView) -> Question | None:
    rows = [row for row in view.ordered_epochs() if row.valid_loss is not None]
    if view.base is None or not view.base.held_out or len(rows) < _FEWEST_WRONG:
        return None
    last = rows[-1].valid_loss
    assert last is not None
    offered = (f"{value:.2f}" for row in rows[:-1] for value in (row.valid_loss, row.train_loss) if value is not None)
    wrong = _wrong(f"{last:.2f}", offered)
    if wrong is None:
        return None
    return Question(
        id="held_out_loss",
        text=f"The base's held-out loss was {view.base.loss:.2f}. What was it after the last epoch?",
        right=f"{last:.2f}",
        wrong=wrong,
        explanation="The epoch table has it for every epoch, beside the training loss.",
        view="training",
        anchor=f"epoch-{rows[-1].epoch}",
    )


def _train_loss(view: TraceView) -> Question | None:
    rows = view.ordered_epochs()
    right = f"{rows[-1].train_loss:.2f}"
    wrong = _wrong(right, (f"{row.train_loss:.2f}" for row in rows[:-1]))
    if wrong is None:
        return None
    return Question(
        id="train_loss",
        text=f"The training loss of epoch 1 was {rows[0].train_loss:.2f}. What was it in epoch {rows[-1].epoch}?",
        right=right,
        wrong=wrong,
        explanation="It is the mean over the trained tokens of the epoch.",
        view="training",
        anchor=f"epoch-{rows[-1].epoch}",
    )


_TABLE: tuple[Callable[[TraceView], Question | None], ...] = (
    _tuned_answer,
    _best_epoch,
    _share_trained,
    _better,
    _fall,
    _parameters,
    _train_loss,
)
"""The most telling first."""
