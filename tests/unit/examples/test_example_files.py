"""Every supervised example under ``examples/``: the product takes its files, nothing held out was trained, and its labels are sound.

What it does not: train anything, or check examples of preference and reinforcement format, whose rows have other shapes.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luthier.core.conversation import Role
from luthier.core.examples import SftExample
from luthier.core.matching import words
from luthier.data.stage import collect

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
FOLDERS = sorted(folder for folder in EXAMPLES.iterdir() if folder.is_dir())
MAX_LINE_BYTES = 1 << 20
INTENTS = {"set_alarm", "play_music", "weather", "send_message", "order_status", "refund", "opening_hours", "talk_to_human"}
LABELS = {"sentiment-label": ({"positive", "negative"}, 120, 30), "intent-label": (INTENTS, 40, 10)}
"""Folder -> labels, training rows of each, held-out rows of each."""
EXTRACT = EXAMPLES / "extract-json"
KEYS = ["name", "item", "count"]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _is_supervised(folder: Path) -> bool:
    """Prompt/completion rows, or chat rows that end with the assistant's message and carry no answer to be graded."""
    path = folder / "train.jsonl"
    if not path.exists():
        return False
    row = _rows(path)[0]
    if "messages" in row:
        return row["messages"][-1]["role"] == "assistant" and set(row) <= {"messages", "tools", "parallel_tool_calls"}
    return set(row) == {"prompt", "completion"}


SUPERVISED = [folder.name for folder in FOLDERS if _is_supervised(folder)]


def _examples(name: str, part: str) -> tuple[SftExample, ...]:
    """Of a supervised file."""
    role = "training" if part == "train" else "validation"
    path = EXAMPLES / name / f"{part}.jsonl"
    examples = collect(part, path, role=role, max_line_bytes=MAX_LINE_BYTES, sha256="").examples
    return tuple(example for example in examples if isinstance(example, SftExample))


def _prompt(example: SftExample) -> str:
    """All that the model reads before its last answer, without the system line, case and punctuation."""
    read = [m for m in example.conversation.messages[:-1] if m.role not in (Role.SYSTEM, Role.DEVELOPER)]
    return " / ".join(words(f"{m.content} {json.dumps(m.tool_calls) if m.tool_calls else ''}") for m in read)


def _answers(name: str, part: str) -> list[str]:
    return [example.conversation.messages[-1].content for example in _examples(name, part)]


def test_the_known_examples_are_checked_here() -> None:
    assert {"translate-en-fr", "sentiment-label", "intent-label", "extract-json"} <= set(SUPERVISED)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_folder_has_a_readme(folder: Path) -> None:
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("part", ["train", "valid"])
@pytest.mark.parametrize("name", SUPERVISED)
def test_the_product_takes_every_row(name: str, part: str) -> None:
    raw = (EXAMPLES / name / f"{part}.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    examples = _examples(name, part)
    assert len(examples) == raw.count(b"\n")
    for example in examples:
        last = example.conversation.messages[-1]
        assert last.role is Role.ASSISTANT
        assert last.content == last.content.strip()
        assert last.content or last.tool_calls
        assert _prompt(example)


@pytest.mark.parametrize("name", SUPERVISED)
def test_no_prompt_stands_twice_or_in_both_files(name: str) -> None:
    counted = Counter(_prompt(example) for part in ("train", "valid") for example in _examples(name, part))
    assert [prompt for prompt, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("name", sorted(LABELS))
def test_labels_are_balanced(name: str) -> None:
    labels, num_train, num_valid = LABELS[name]
    assert Counter(_answers(name, "train")) == dict.fromkeys(labels, num_train)
    assert Counter(_answers(name, "valid")) == dict.fromkeys(labels, num_valid)


def test_sentiment_sentences_are_short_and_a_not_gives_no_label_away() -> None:
    negated: Counter[str] = Counter()
    for example in _examples("sentiment-label", "train") + _examples("sentiment-label", "valid"):
        asked, answered = example.conversation.messages
        assert asked.content.startswith("Sentiment: ")
        sentence = asked.content.removeprefix("Sentiment: ")
        assert 4 <= len(sentence.split()) <= 14, sentence
        spoken = set(words(sentence.replace("n't", " not")).split())
        negated[answered.content] += bool(spoken & {"not", "never", "no", "nothing", "nobody", "cannot"})
    assert min(negated["positive"], negated["negative"]) >= 20


def test_intent_rows_name_the_task_in_one_system_line() -> None:
    every = _examples("intent-label", "train") + _examples("intent-label", "valid")
    assert {tuple(m.role for m in e.conversation.messages) for e in every} == {(Role.SYSTEM, Role.USER, Role.ASSISTANT)}
    assert {e.conversation.messages[0].content for e in every} == {"Answer with the name of the intent."}


@pytest.mark.parametrize("part", ["train", "valid"])
def test_extracted_json_has_the_keys_and_only_what_the_sentence_says(part: str) -> None:
    missing: Counter[str] = Counter()
    for example in _examples("extract-json", part):
        asked, answered = example.conversation.messages
        facts = json.loads(answered.content)
        assert list(facts) == KEYS
        assert answered.content == json.dumps(facts)
        assert all(isinstance(facts[key], str | None) for key in ("name", "item"))
        assert isinstance(facts["count"], int | None)
        assert all(words(facts[key]) in words(asked.content) for key in ("name", "item") if facts[key] is not None)
        missing.update(key for key, value in facts.items() if value is None)
    assert set(missing) == set(KEYS)


def test_held_out_orders_have_seen_and_unseen_names_and_items() -> None:
    train, valid = ([json.loads(answer) for answer in _answers("extract-json", part)] for part in ("train", "valid"))
    for key in ("name", "item"):
        seen = {facts[key] for facts in train}
        unseen = [facts[key] not in seen for facts in valid if facts[key] is not None]
        assert 0.2 < sum(unseen) / len(unseen) < 0.8, key


def test_the_script_makes_the_committed_orders(tmp_path: Path) -> None:
    shutil.copy(EXTRACT / "make_rows.py", tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "make_rows.py")], check=True)
    for name in ("train.jsonl", "valid.jsonl"):
        assert (tmp_path / name).read_bytes() == (EXTRACT / name).read_bytes()
