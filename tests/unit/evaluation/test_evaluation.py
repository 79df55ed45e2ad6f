"""Evaluation: normalised exact match, questions out of conversations, verdicts and the report."""

import pytest

from luthier.core.conversation import conversation_of
from luthier.core.engine_messages import EngineRequest, Finished, Generate, Score, Scores
from luthier.core.examples import Dataset, RowFormat, SftExample, SourceLine
from luthier.core.generation import FinishReason, ModelTarget
from luthier.core.matching import exact_match, normalise
from luthier.evaluation.report import build_report, verdict
from luthier.evaluation.runner import Question, SampleResult, question_of
from luthier.evaluation.stage import MAX_QUESTIONS, evaluate, held_out_questions


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        ("Bonjour", "bonjour !", True),
        ("S’il vous plaît", "s'il vous plaît.", True),
        ("« Merci »", "Merci", True),
        ("Où  est-il ?", "où est-il", True),
        ("Ou est-il", "Où est-il", False),
        ("Bonsoir", "Bonjour", False),
    ],
)
def test_exact_match_forgives_form_only(answer: str, expected: str, same: bool) -> None:
    assert exact_match(answer, expected) is same


def test_normalise_composes_accents() -> None:
    assert normalise("E\u0301te\u0301") == "été"


def test_a_question_asks_up_to_the_last_assistant_message() -> None:
    conversation = conversation_of(
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d"},
        ]
    )
    question = question_of(3, conversation)
    assert question is not None
    assert [m["content"] for m in question.asked] == ["s", "a", "b", "c"]
    assert question.expected == "d"
    assert question.whole[2]["weight"] == 0
    assert question_of(1, conversation_of([{"role": "assistant", "content": "alone"}])) is None


def result(answer: str, loss: float) -> SampleResult:
    return SampleResult(answer=answer, loss=loss, num_tokens=2, num_correct=1)


QUESTION = Question(line=1, asked=({"role": "user", "content": "x"},), expected="right", whole=())


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        (result("wrong", 1.0), result("right", 2.0), "better"),
        (result("right", 1.0), result("wrong", 0.1), "worse"),
        (result("wrong", 1.0), result("bad", 0.5), "better"),
        (result("right", 1.0), result("right", 1.5), "worse"),
        (result("wrong", 1.0), result("wrong", 1.04), "same"),
    ],
)
def test_verdict(base: SampleResult, tuned: SampleResult, expected: str) -> None:
    assert verdict(QUESTION, base, tuned) == expected


def test_report_weighs_losses_by_tokens() -> None:
    short = SampleResult(answer="right", loss=1.0, num_tokens=1, num_correct=1)
    long = SampleResult(answer="no", loss=3.0, num_tokens=3, num_correct=0)
    report = build_report([QUESTION, QUESTION], [short, long], [short, short])
    assert report["base"] == {"loss": 2.5, "accuracy": 0.25, "exact_match": 0.5}
    assert (report["better"], report["worse"], report["same"]) == (1, 0, 1)
    assert report["samples"][1]["verdict"] == "better"


def dataset(count: int) -> Dataset:
    examples = tuple(
        SftExample(
            source=SourceLine("file-x", line),
            conversation=conversation_of([{"role": "user", "content": str(line)}, {"role": "assistant", "content": str(line)}]),
        )
        for line in range(1, count + 1)
    )
    return Dataset(file_id="file-x", row_format=RowFormat.CHAT, examples=examples, num_lines=count, fingerprint="f")


def test_a_large_file_is_sampled_by_seed_in_file_order() -> None:
    one, two, other = (held_out_questions(dataset(500), seed) for seed in (1, 1, 2))
    assert [q.line for q in one] == [q.line for q in two]
    assert [q.line for q in one] != [q.line for q in other]
    assert [q.line for q in one] == sorted(q.line for q in one)
    assert len(one) == MAX_QUESTIONS


class EchoEngine:
    """Answers with the question for the tuned target, with nothing for the base; scores the tuned one lower."""

    def request(self, message: EngineRequest, *, timeout_seconds: float = 0) -> Scores:
        assert isinstance(message, Score)
        loss = 1.0 if message.target.name == "tuned" else 4.0
        return Scores(entries=tuple({"loss_sum": loss, "num_tokens": 2, "num_correct": 1} for _ in message.conversations))

    def generate(self, message: Generate) -> tuple[str, list, Finished]:
        assert message.messages is not None
        text = message.messages[-1]["content"] if message.target.name == "tuned" else ""
        done = Finished(finish_reason=FinishReason.STOP, prompt_tokens=1, completion_tokens=1, first_token_seconds=0, total_seconds=0)
        return text, [], done


def test_evaluate_puts_tuned_beside_base() -> None:
    targets = {name: ModelTarget(name=name, base_path="/b") for name in ("base", "tuned")}
    questions = held_out_questions(dataset(12), 1)
    report = evaluate(EchoEngine(), base=targets["base"], tuned=targets["tuned"], questions=questions, max_length=64)
    assert report["n"] == 12
    assert report["tuned"]["exact_match"] == 1.0
    assert report["base"]["exact_match"] == 0.0
    assert report["better"] == 12
    assert report["base"]["loss"] == 2.0
