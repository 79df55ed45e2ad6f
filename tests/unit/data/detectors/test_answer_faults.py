"""Answers that should not be learned, in English and French, and answers that are only like them."""

import pytest

from luthier.core.doctor_report import Weight
from luthier.data.detectors.answer_faults import AnswerFaults
from luthier.data.doctor.row import DoctorRow
from tests.support.doctor_rows import answers, chat, found

REFUSED = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, but I cannot assist with that request.",
    "Sorry, I can't answer that.",
    "I cannot provide medical advice.",
    "I can't assist with this.",
    "I am unable to fulfil this request.",
    "As an AI language model, I cannot browse the web.",
    "Unfortunately, I am not able to share that.",
    "I apologize, but I won't continue.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Désolée, je ne suis pas en mesure de répondre.",
    "Je ne peux pas répondre à cette question.",
    "En tant qu'IA, je ne peux pas accéder à vos courriels.",
    "Malheureusement, je ne peux pas fournir cela.",
]
ANSWERED = [
    "I'm sorry to hear that. Have you tried to restart it?",
    "Sorry, I have no tool for that.",
    "Sorry, we are closed on Mondays.",
    "I can't wait to see you!",
    "I cannot swim.",
    "You can't help with that, but she can provide it.",
    "It cannot provide more than ten.",
    "I can provide that.",
    "Je ne peux pas aller avec vous demain.",
    "Je ne peux pas venir.",
    "Désolé, nous sommes fermés.",
    "Je suis désolée pour ce retard, voici la réponse.",
]
SENTENCE = "The shop on the corner is open from nine to six, and on Sundays until noon"


def _rows(*texts: str) -> dict:
    return found(AnswerFaults(), answers(*texts))


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_found(text: str) -> None:
    finding = _rows("Yes.", text)["refused_answer"]
    assert (finding.count, finding.lines, finding.weight) == (1, (2,), Weight.WORTH_A_LOOK)


@pytest.mark.parametrize("text", ANSWERED)
def test_an_answer_with_such_words_is_none(text: str) -> None:
    assert _rows(text) == {}


def test_a_refusal_in_its_own_key_is_one() -> None:
    row = chat(4, {"role": "user", "content": "q"}, {"role": "assistant", "content": None, "refusal": "No."})
    assert found(AnswerFaults(), [row])["refused_answer"].lines == (4,)


def test_what_is_not_trained_is_not_judged() -> None:
    row = chat(1, {"role": "user", "content": "I can't assist with this."}, {"role": "assistant", "content": "N/A", "weight": 0})
    assert found(AnswerFaults(), [row]) == {}


def test_white_space_alone_is_serious() -> None:
    finding = _rows("Yes.", " \n")["blank_answer"]
    assert (finding.lines, finding.weight) == ((2,), Weight.SERIOUS)


def test_an_answer_that_calls_a_tool_may_be_empty() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = chat(1, {"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    assert found(AnswerFaults(), [row]) == {}


@pytest.mark.parametrize("text", ["N/A", "n/a.", "TODO", "[TODO]", "null", "...", "-", "Lorem ipsum", "à compléter"])
def test_a_stand_in_is_found(text: str) -> None:
    assert _rows("Yes.", text)["placeholder_answer"].lines == (2,)


def test_a_stand_in_that_is_a_label_of_the_task_is_none() -> None:
    assert _rows(*["n/a", "yes", "no"] * 10) == {}


def test_an_answer_that_stops_in_a_sentence_is_found_where_most_end() -> None:
    whole = [f"{SENTENCE}{end}" for end in (".", "!", "?", "…", '."', ".)", "...", ":", "。", " 😀", ". 1", "* ")] * 2
    finding = _rows(*whole, f"{SENTENCE} and the", SENTENCE + ",")["unfinished_answer"]
    assert finding.lines == (25, 26)
    assert finding.finding == "2 rows have an answer that stops within a sentence; 24 of 26 long ones end properly."


def test_answers_that_end_as_all_do_are_no_exception() -> None:
    assert _rows(*[SENTENCE] * 30) == {}
    assert _rows(*[f"{SENTENCE}."] * 10, SENTENCE) == {}  # too few to tell
    assert _rows(*[f"{SENTENCE}."] * 30, f"{SENTENCE}:\n- milk\n- bread", f"{SENTENCE}: https://mail.org/a", "positive") == {}


def test_json_that_does_not_parse_is_found_among_json_that_does() -> None:
    finding = _rows('{"a": 1}', "[1, 2]", '{"a": [1, 2')["truncated_json"]
    assert (finding.lines, finding.weight) == ((3,), Weight.SERIOUS)
    assert _rows("[laughs] Yes.", "{smile}", '{"a": 1}') == {}


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["a", " b", "c"], (2,)),
        (["a", "b\n", "c"], (2,)),
        ([" a", " b", "c"], (3,)),
        ([" a", " b", " c"], None),
        (["a\n", "b\n"], None),
    ],
)
def test_stray_spaces_are_those_of_the_exceptions(texts: list[str], lines: tuple[int, ...] | None) -> None:
    findings = _rows(*texts)
    if lines is None:
        assert findings == {}
    else:
        assert findings["answer_whitespace"].lines == lines


def test_both_ends_are_told_apart() -> None:
    detector = AnswerFaults()
    for row in answers("a", " b", "c\n", "d"):
        detector.see(row)
    assert [finding.finding for finding in detector.findings()] == [
        "The answer of 1 row begins with white space, unlike the other 3.",
        "The answer of 1 row ends with white space, unlike the other 3.",
    ]


@pytest.mark.parametrize("text", ["I'm sorry" + " a" * 100_000, "{" * 200_000, " " * 200_000 + "a", "désolé " * 30_000])
def test_a_hostile_answer_ends(text: str) -> None:
    rows: list[DoctorRow] = answers(text)
    assert "refused_answer" not in found(AnswerFaults(), rows)
