"""The examples for tools, preferences and rewards, and the blind phrases: forms, disjoint files, and a grader that says what it should."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.core.matching import normalise, words
from luthier.data.stage import FileRole, collect
from pretraining.evaluation.formality import form_of

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
PHRASES = ROOT / "pretraining" / "data" / "everyday_phrases.jsonl"
CONTRACTIONS = {"i m": "i am", "it s": "it is", "that s": "that is", "don t": "do not", "i d": "i would"}
MAX_LINE_BYTES = 1 << 20
ROLES: tuple[tuple[str, FileRole, int], ...] = (("train", "training", 240), ("valid", "validation", 60))


def _rows(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    return [json.loads(line) for line in raw.decode("utf-8").splitlines()]


def _both(name: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return _rows(EXAMPLES / name / "train.jsonl"), _rows(EXAMPLES / name / "valid.jsonl")


def _prompt(row: dict[str, Any]) -> str:
    messages = row["messages"] if "messages" in row else row["input"]["messages"]
    assert [m["role"] for m in messages if m["role"] != "assistant"] == ["user"]
    return words(messages[0]["content"])


def _folded(phrase: str) -> str:
    """Letters only, and "I'm" as "I am": a blind phrase may not be a training phrase in other clothes."""
    text = f" {words(phrase)} "
    for short, long in CONTRACTIONS.items():
        text = text.replace(f" {short} ", f" {long} ")
    return text.strip()


@pytest.mark.parametrize("name", ["tool-call", "formality-dpo", "word-sentence-rft"])
def test_no_prompt_stands_twice_or_in_both_files(name: str) -> None:
    train, valid = _both(name)
    prompts = [_prompt(row) for row in train + valid]
    assert all(prompts)
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("name", ["tool-call", "formality-dpo", "word-sentence-rft"])
def test_readme_has_a_place_for_the_measured_table(name: str) -> None:
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    assert "Apache-2.0" in text
    assert text.split("## Measured\n")[1].strip().startswith("<!-- measured -->\n")


@pytest.mark.parametrize(("name", "role", "count"), ROLES)
def test_the_product_accepts_the_tool_rows(name: str, role: FileRole, count: int) -> None:
    dataset = collect(name, EXAMPLES / "tool-call" / f"{name}.jsonl", role=role, max_line_bytes=MAX_LINE_BYTES, sha256="")
    assert len(dataset.examples) == count


@pytest.mark.parametrize("name", ["train", "valid"])
def test_a_call_is_offered_by_its_row_and_gives_every_argument(name: str) -> None:
    calls = 0
    for row in _rows(EXAMPLES / "tool-call" / f"{name}.jsonl"):
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in row["tools"]}
        answer = row["messages"][-1]
        if "tool_calls" not in answer:
            assert answer["content"] == "Sorry, I have no tool for that."
            continue
        (call,) = answer["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        parameters = offered[call["function"]["name"]]
        assert list(arguments) == parameters["required"]
        types = {"string": str, "integer": int}
        assert all(type(arguments[key]) is types[kind["type"]] for key, kind in parameters["properties"].items())
        calls += 1
    assert calls == {"train": 190, "valid": 46}[name]


def test_the_script_makes_the_tool_rows_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EXAMPLES / "tool-call"
    spec = importlib.util.spec_from_file_location("make_tool_rows", folder / "make_rows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    module.main()
    for name in ("train.jsonl", "valid.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_preference_rows_have_the_api_form() -> None:
    train, valid = _both("formality-dpo")
    assert (len(train), len(valid)) == (160, 40)
    for row in train + valid:
        assert set(row) == {"input", "preferred_output", "non_preferred_output"}
        assert set(row["input"]) == {"messages"}
        assert row["input"]["messages"][0]["content"].startswith("Translate to French: ")
        answers = []
        for key in ("preferred_output", "non_preferred_output"):
            (message,) = row[key]
            assert set(message) == {"role", "content"}
            assert message["role"] == "assistant"
            assert message["content"].strip() == message["content"] != ""
            answers.append(message["content"])
        assert answers[0] != answers[1]


def test_preferred_answers_say_vous_and_the_others_tu() -> None:
    train, valid = _both("formality-dpo")
    for row in train + valid:
        assert form_of(row["preferred_output"][0]["content"]) == 1, row
        assert form_of(row["non_preferred_output"][0]["content"]) == 0, row


def test_reinforcement_rows_have_the_api_form() -> None:
    train, valid = _both("word-sentence-rft")
    assert (len(train), len(valid)) == (120, 40)
    for row in train + valid:
        word = row["reference_answer"]
        assert row == {"messages": [{"role": "user", "content": f"Write a sentence with the word: {word}"}], "reference_answer": word}
        assert word.isalpha()
        assert word.islower()


@pytest.fixture(scope="module")
def grade() -> Callable[[dict[str, Any], dict[str, Any]], float]:
    grader = json.loads((EXAMPLES / "word-sentence-rft" / "grader.json").read_text(encoding="utf-8"))
    assert set(grader) == {"type", "name", "source"}
    assert grader["type"] == "python"
    space: dict[str, Any] = {}
    exec(compile(grader["source"], "grader.json", "exec"), space)  # the project's own committed grader
    return space["grade"]


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("The dog sleeps here.", 1.0),
        ("  Where is the DOG now?\n", 1.0),
        ("“Sit,” she told the dog’s friend and the dog!", 1.0),
        (" ".join(["dog", *"abcdefghijklm"]) + ".", 1.0),  # 14 words
        ("The dog and the cat and a bird sleep.", 1.0),  # two words twice
        ("The dog sleeps.", 0.5),  # 3 words
        (" ".join(["dog", *"abcdefghijklmn"]) + ".", 0.5),  # 15 words
        ("The dog sleeps here", 0.5),
        ("The dog sleeps here,", 0.5),
        ('The dog said "good day."', 0.5),  # the last character is a quotation mark
        ("The dog, the cat and the bird.", 0.5),  # "the" three times
        ("dog", 0.5),
        ("The dogs sleep in here.", 0.0),
        ("The hotdog is on the table.", 0.0),
        ("The cat sleeps in the house.", 0.0),
        ("...", 0.0),
        ("", 0.0),
    ],
)
def test_grader_gives_the_said_reward(grade: Callable[[dict[str, Any], dict[str, Any]], float], text: str, reward: float) -> None:
    given = grade({"output_text": text}, {"reference_answer": "dog"})
    assert isinstance(given, float)
    assert given == reward


def test_grader_takes_an_answer_without_text(grade: Callable[[dict[str, Any], dict[str, Any]], float]) -> None:
    assert grade({"output_text": None}, {"reference_answer": "dog"}) == 0.0


def test_there_are_a_hundred_distinct_blind_phrases_with_distinct_answers() -> None:
    rows = _rows(PHRASES)
    assert len(rows) == 100
    assert len({_folded(row["phrase"]) for row in rows}) == 100
    for row in rows:
        assert set(row) == {"phrase", "answers"}
        assert 1 <= len(row["phrase"].split()) <= 6
        answers = [normalise(answer) for answer in row["answers"]]
        assert answers
        assert all(answers)
        assert len(set(answers)) == len(answers), row["phrase"]
        assert not any(mark in answer for answer in row["answers"] for mark in "\u2019\u00a0\u202f"), row["phrase"]


def test_no_blind_phrase_stands_in_the_translate_example_or_among_the_preferences() -> None:
    folder = EXAMPLES / "translate-en-fr"
    known = {_folded(row["phrase"]) for row in _rows(folder / "phrases.jsonl")}
    for name in ("train", "valid"):
        known |= {_folded(row["prompt"].removeprefix("Translate to French: ")) for row in _rows(folder / f"{name}.jsonl")}
    train, valid = _both("formality-dpo")
    for row in train + valid:
        known.add(_folded(row["input"]["messages"][0]["content"].removeprefix("Translate to French: ")))
    assert [row["phrase"] for row in _rows(PHRASES) if _folded(row["phrase"]) in known] == []
