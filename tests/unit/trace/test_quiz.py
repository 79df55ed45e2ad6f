"""Quiz and insight: only the run's own numbers, always the same, and nothing that the run does not tell."""

import dataclasses

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import BaseMeasured, EpochDone, Evaluated, RunFinished, SpecResolved
from luthier.trace.insight import insight_of
from luthier.trace.quiz import quiz_of
from luthier.trace.view import TraceView, view_of
from tests.support.trace_logs import epoch, events_of, whole_run


def view_with(*payloads: object) -> TraceView:
    return view_of(events_of([(Stage.TRAINING, payload) for payload in payloads]))  # type: ignore[misc]


def evaluated(better: int, worse: int, *, n: int = 10, tuned: float = 0.8) -> Evaluated:
    side = {"loss": 1.0, "accuracy": 0.5, "exact_match": 0.0}
    samples = [{"prompt": f"p{i}", "expected": f"e{i}", "base": f"b{i}", "tuned": f"t{i}"} for i in range(3)]
    report = {"n": n, "base": side, "tuned": {**side, "exact_match": tuned}, "better": better, "worse": worse, "same": n - better - worse}
    return Evaluated(report={**report, "samples": samples})


SPEC = SpecResolved(spec={}, decisions=(), trainable_parameters=100, total_parameters=1000)
EPOCHS = (epoch(1, 2.0, 1.5, n=3), epoch(2, 1.0, 0.9, n=3), epoch(3, 0.5, 1.2, n=3))


def test_every_question_has_one_right_answer_and_two_wrong_ones_at_least() -> None:
    quiz = quiz_of(view_with(SPEC, *EPOCHS, evaluated(7, 1)))
    assert quiz is not None
    assert (len(quiz["questions"]), quiz["note"]) == (3, None)
    for question in quiz["questions"]:
        texts = [answer["text"] for answer in question["answers"]]
        assert len(set(texts)) == len(texts) >= 3
        assert sum(answer["correct"] for answer in question["answers"]) == 1


def test_the_right_answers_are_the_runs() -> None:
    quiz = quiz_of(view_with(SPEC, *EPOCHS, evaluated(7, 1)))
    assert quiz is not None
    right = {q["id"]: next(a["text"] for a in q["answers"] if a["correct"]) for q in quiz["questions"]}
    assert right["tuned_answer"] == "t0"
    assert right["best_epoch"] == "Epoch 2"
    assert right["better"] == "7 of 10"
    places = {q["id"]: (q["view"], q["anchor"]) for q in quiz["questions"]}
    assert places["best_epoch"] == ("training", "epoch-2")


def test_a_sample_is_named_by_the_line_of_its_file_as_the_page_names_it() -> None:
    report = evaluated(7, 1).report
    samples = [{**sample, "line": 2 * number} for number, sample in enumerate(report["samples"], start=1)]
    quiz = quiz_of(view_with(SPEC, *EPOCHS, Evaluated(report={**report, "samples": samples})))
    assert quiz is not None
    assert {q["id"]: q["anchor"] for q in quiz["questions"]}["tuned_answer"] == "sample-2"


def test_the_order_is_the_same_each_time_and_not_that_of_the_table() -> None:
    view = view_with(SPEC, *EPOCHS, evaluated(7, 1))
    assert quiz_of(view) == quiz_of(view)
    firsts = set()
    for run in "abcdefgh":
        quiz = quiz_of(dataclasses.replace(view, run=run))
        assert quiz is not None
        firsts.add(quiz["questions"][0]["answers"][0]["correct"])
    assert firsts == {True, False}


def test_a_run_with_few_numbers_says_so() -> None:
    assert quiz_of(view_with(SPEC)) is None
    quiz = quiz_of(view_with(epoch(1, 2.0, None, n=1)))
    assert quiz == {"questions": [], "note": "This run has numbers for 0 of 3 questions so far."}


@pytest.mark.parametrize(
    ("payloads", "rule", "words"),
    [
        ((RunFinished(status="failed", error={"code": "x", "message": "No rows."}),), "failed", "No rows."),
        (EPOCHS, "rose_after_best", "lowest after epoch 2 (0.90) and rose to 1.20 by epoch 3"),
        ((BaseMeasured(loss=0.1, accuracy=0.97, held_out=True), epoch(1, 0.1, 0.1)), "base_knew", "loss 0.10, token accuracy 97%"),
        ((evaluated(1, 5),), "worse", "better on 1 and worse on 5"),
        (
            (evaluated(7, 1),),
            "better",
            "better than its base on 7 of 10 held-out examples and worse on 1. Exactly right answers went from 0 to 8.",
        ),
        (
            (BaseMeasured(loss=3.0, accuracy=0.5, held_out=True), epoch(1, 1.0, 0.9), epoch(2, 0.8, 0.85)),
            "held_out_fell",
            "fell from 3.00 to 0.85, 98% of that in epoch 1",
        ),
        ((epoch(1, 2.0, None), epoch(2, 1.0, None)), "train_fell", "from 2.00 in epoch 1 to 1.00 in epoch 2; without held-out rows"),
    ],
)
def test_the_first_rule_that_holds_speaks(payloads: tuple[object, ...], rule: str, words: str) -> None:
    found = insight_of(view_with(*payloads))
    assert found is not None
    assert found["rule"] == rule
    assert words in found["text"]
    assert found["view"]
    assert found["anchor"]


def test_nothing_is_said_of_a_run_that_has_not_begun() -> None:
    assert insight_of(TraceView()) is None


def test_the_golden_run_has_both() -> None:
    view = view_of(whole_run())
    assert quiz_of(view) is not None
    insight = insight_of(view)
    assert insight is not None
    assert any(isinstance(event.payload, EpochDone) for event in whole_run())
