"""Both answers of held-out pairs are scored by the base, the tuned model and what tuning started from, and set side by side."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from luthier.core.conversation import Conversation, Message, Role
from luthier.core.engine_messages import Generate, Score, Scores
from luthier.core.examples import Dataset, PreferenceExample, RowFormat, SourceLine
from luthier.core.generation import ModelTarget
from luthier.evaluation.preference import PairScore, PreferenceSetting, preference_report, verdict
from luthier.evaluation.stage import evaluate, held_out_questions

BASE, PARENT, TUNED = (ModelTarget(name=name, base_path="/m") for name in ("base", "ft:parent", "ft:tuned"))
LOGPS = {"base": {"good": -5.0, "bad": -4.0}, "ft:parent": {"good": -4.5, "bad": -4.0}, "ft:tuned": {"good": -3.0, "bad": -9.0}}


@dataclass
class Engine:
    """Answers "bad", or "good" once tuned; knows how likely each answer is."""

    scored: list[Score] = field(default_factory=list)

    def generate(self, request: Generate, *_: Any) -> tuple[str, Any, Any]:
        return "good" if request.target.name == "ft:tuned" else "bad", None, None

    def request(self, request: Score) -> Scores:
        self.scored.append(request)
        table = LOGPS[request.target.name]
        entries = ({"loss_sum": -table[talk[-1]["content"]], "num_tokens": 2, "num_correct": 1} for talk in request.conversations)
        return Scores(entries=tuple(entries))


def dataset() -> Dataset:
    asked = (
        Message(role=Role.USER, content="hi"),
        Message(role=Role.ASSISTANT, content="yes?"),
        Message(role=Role.USER, content="how are you?"),
    )
    examples = [
        PreferenceExample(
            source=SourceLine("file-A", line),
            prompt=Conversation(messages=asked),
            preferred=Message(role=Role.ASSISTANT, content="good", weight=0.0),
            non_preferred=Message(role=Role.ASSISTANT, content="bad"),
        )
        for line in (1, 2)
    ]
    return Dataset(file_id="file-A", row_format=RowFormat.PREFERENCE, examples=examples, num_lines=2, fingerprint="x")


def test_a_question_is_the_whole_prompt_and_only_its_answers_have_weight() -> None:
    question = held_out_questions(dataset(), 1)[0]
    assert [message["content"] for message in question.asked] == ["hi", "yes?", "how are you?"]
    assert question.expected == "good"
    assert question.other is not None
    for whole, answer in ((question.whole, "good"), (question.other, "bad")):
        assert [(m["content"], m["weight"]) for m in whole if m["role"] == "assistant"] == [("yes?", 0.0), (answer, 1.0)]


def test_base_and_tuned_model_are_set_beside_the_reference() -> None:
    engine = Engine()
    setting = PreferenceSetting(reference=PARENT, beta=0.5)
    report = evaluate(engine, base=BASE, tuned=TUNED, questions=held_out_questions(dataset(), 1), max_length=64, setting=setting)  # type: ignore[arg-type]
    assert (report["n"], report["better"], report["worse"], report["same"]) == (2, 2, 0, 0)
    assert (report["base"]["exact_match"], report["tuned"]["exact_match"]) == (0.0, 1.0)
    found = report["preference"]
    assert (found["n"], found["beta"], found["reference"]) == (2, 0.5, "ft:parent")
    assert (found["base"]["prefers"], found["tuned"]["prefers"]) == (0.0, 1.0)
    # 0.5 * ((-3 - -4.5) - (-9 - -4)) = 3.25
    assert found["tuned"]["reward_margin"] == pytest.approx(3.25)
    assert (found["tuned"]["reward_accuracy"], found["base"]["reward_accuracy"]) == (1.0, 0.0)
    assert (report["samples"][0]["base_lead"], report["samples"][0]["tuned_lead"]) == (-1.0, 6.0)


def test_where_the_base_is_the_reference_it_is_scored_once_and_has_no_rewards() -> None:
    engine = Engine()
    setting = PreferenceSetting(reference=BASE, beta=0.1)
    report = evaluate(engine, base=BASE, tuned=TUNED, questions=held_out_questions(dataset(), 1), max_length=64, setting=setting)  # type: ignore[arg-type]
    assert [len(score.conversations) for score in engine.scored] == [2, 2, 4, 4]
    assert (report["preference"]["base"]["reward_margin"], report["preference"]["base"]["reward_accuracy"]) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        (PairScore(-2.0, -1.0, 3, 2), PairScore(-1.0, -2.0, 3, 2), "better"),
        (PairScore(-1.0, -2.0, 3, 2), PairScore(-2.0, -1.0, 3, 2), "worse"),
        (PairScore(-1.0, -2.0, 3, 2), PairScore(-1.0, -9.0, 3, 2), "better"),
        (PairScore(-1.0, -9.0, 3, 2), PairScore(-1.0, -2.0, 3, 2), "worse"),
        (PairScore(-1.0, -11.0, 3, 2), PairScore(-1.0, -11.4, 3, 2), "same"),
        (PairScore(-1.0, -1.0, 3, 2), PairScore(-1.0, -1.0, 3, 2), "same"),
    ],
)
def test_verdicts_follow_the_lead_of_the_preferred_answer(base: PairScore, tuned: PairScore, expected: str) -> None:
    assert verdict(base, tuned) == expected


def test_without_a_reference_a_reward_is_beta_times_the_mean_of_an_answers_tokens() -> None:
    engine = Engine()
    setting = PreferenceSetting(reference=None, beta=0.5)
    report = evaluate(engine, base=BASE, tuned=TUNED, questions=held_out_questions(dataset(), 1), max_length=64, setting=setting)  # type: ignore[arg-type]
    assert [len(score.conversations) for score in engine.scored] == [2, 2, 4, 4]
    assert report["preference"]["reference"] is None
    base, tuned = [PairScore(-6.0, -3.0, 3, 2)], [PairScore(-3.0, -8.0, 3, 2)]
    found = preference_report(None, base, tuned, setting)
    assert (found["base"]["reward_chosen"], found["base"]["reward_rejected"]) == (-1.0, -0.75)
    assert found["tuned"]["reward_margin"] == pytest.approx(1.5)
    assert (found["base"]["reward_accuracy"], found["tuned"]["reward_accuracy"]) == (0.0, 1.0)


def test_equal_answers_count_half() -> None:
    same = [PairScore(-1.0, -1.0, 3, 2)]
    report = preference_report(same, same, same, PreferenceSetting(reference=BASE, beta=0.1))
    assert (report["tuned"]["prefers"], report["tuned"]["reward_accuracy"]) == (0.5, 0.5)
