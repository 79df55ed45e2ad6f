"""What must hold for every file: importing inverts exporting, a repair is done once and for all, a split is by content.

Repaired files are also read by the check that a job's file goes through, and must pass it.
"""

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.export_rows import export_rows
from luthier.data.import_rows import BadRows, import_rows
from luthier.data.near_equal import normal
from luthier.data.repair import repair
from luthier.data.split import split
from luthier.data.stage import collect

LIMIT = 1 << 20
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
AWKWARD = st.sampled_from(["\r", '"', ",", "\ufeff", "\u2028", "\x00", "“a”, ", " ", "\n\n", '\\"', "1,}", "Assistant: "])
CONTENT = st.lists(TEXT | AWKWARD, min_size=1, max_size=3).map("".join)


def _message(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


@st.composite
def talks(draw: st.DrawFn, most_turns: int = 3) -> dict[str, Any]:
    messages = [_message("system", draw(CONTENT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, most_turns))):
        messages += [_message("user", draw(CONTENT)), _message("assistant", draw(CONTENT))]
    return {"messages": messages}


@st.composite
def tool_talks(draw: st.DrawFn) -> dict[str, Any]:
    """A talk in which tools are called, several at once and again, with ids of any kind."""
    name = st.sampled_from(["f", "g", "ü"])
    arguments = st.dictionaries(
        CONTENT, st.none() | st.booleans() | st.integers(-9, 9) | CONTENT | st.lists(CONTENT, max_size=2), max_size=3
    )
    answer = CONTENT | st.sampled_from(["", "[1, 2]", '["a", "b"]', "{}", "null"])
    messages: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(_message("user", draw(CONTENT)))
        for _ in range(draw(st.integers(0, 2))):
            texts = draw(st.lists(arguments, min_size=1, max_size=3))
            ids = draw(st.sampled_from([[f"call_{n}" for n in range(1, 4)], ["x", "y", "z"]]))
            functions = [{"name": draw(name), "arguments": json.dumps(text, ensure_ascii=False)} for text in texts]
            calls = [{"id": i, "type": "function", "function": function} for i, function in zip(ids, functions, strict=False)]
            words = draw(st.sampled_from([{}, {"content": ""}, {"content": "Let me see."}]))
            messages.append({"role": "assistant", **words, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(answer)} for call in calls]
        messages.append(_message("assistant", draw(CONTENT)))
    offered = [{"type": "function", "function": {"name": draw(name), "parameters": {"type": "object"}}}]
    return {"messages": messages, **({"tools": offered} if draw(st.booleans()) else {})}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="")
    return path


def _read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _there_and_back(folder: Path, rows: list[Any], form: str, ending: str) -> list[Any]:
    notes: list[str] = []
    limits: Any = {"skip_bad": False, "max_line_bytes": LIMIT, "note": notes.append}
    export_rows(_write(folder / "in.jsonl", rows), folder / f"x{ending}", form=form, **limits)
    import_rows([str(folder / f"x{ending}")], folder / "out.jsonl", said={}, **limits)
    return _read(folder / "out.jsonl")


@settings(deadline=None, max_examples=40)
@given(st.lists(talks(most_turns=1), min_size=1, max_size=5), st.sampled_from([("csv", ".csv"), ("alpaca", ".json")]))
def test_questions_and_answers_come_back_from_tables_and_alpaca(rows: list[Any], form: tuple[str, str]) -> None:
    with _folder() as folder:
        assert _there_and_back(folder, rows, *form) == rows


@settings(deadline=None, max_examples=40)
@given(st.lists(talks(), min_size=1, max_size=5))
def test_talks_come_back_from_sharegpt(rows: list[Any]) -> None:
    with _folder() as folder:
        assert _there_and_back(folder, rows, "sharegpt", ".json") == rows


@settings(deadline=None, max_examples=60)
@given(st.lists(talks() | tool_talks(), min_size=1, max_size=4))
def test_tool_calls_come_back_from_sharegpt(rows: list[Any]) -> None:
    with _folder() as folder:
        assert _there_and_back(folder, rows, "sharegpt", ".json") == rows


ROLES = {"user": ["user", "Human", "USER", " user"], "assistant": ["assistant", "gpt", "Bot", "ASSISTANT"], "system": ["system", "System"]}


@st.composite
def broken_lines(draw: st.DrawFn) -> tuple[bytes, dict[str, Any]]:
    """A line with some of the curable faults, and the row that it means."""
    row: dict[str, Any]
    if draw(st.booleans()):
        row = draw(talks())
        meant: dict[str, Any] = json.loads(json.dumps(row))
        for message in row["messages"]:
            message["role"] = draw(st.sampled_from(ROLES[message["role"]]))
    else:
        # "text" of a "prompt" row and of a labelled one; the answer is never empty.
        keys = draw(st.sampled_from([("prompt", "completion"), ("text", "label")]))
        row = dict(zip(keys, (draw(CONTENT), draw(CONTENT)), strict=True))
        meant = {"messages": [_message("user", row[keys[0]]), _message("assistant", row[keys[1]])]}
    if "messages" in row and draw(st.booleans()):
        arguments = {"a": draw(CONTENT)}
        plain = json.dumps(arguments, ensure_ascii=False)
        bad = draw(st.sampled_from([arguments, plain, json.dumps(plain), json.dumps(json.dumps(plain))]))
        for target, value in ((row, bad), (meant, plain)):
            call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": value}}
            target["messages"].append({"role": "assistant", "tool_calls": [call]})
    text = json.dumps(row, ensure_ascii=draw(st.booleans()))
    if draw(st.booleans()):
        text = text[:-1] + ",}" + draw(st.sampled_from(["", ",", " , "]))
    return text.encode() + draw(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \r\n"])), meant


@settings(deadline=None, max_examples=50)
@given(st.lists(broken_lines(), min_size=10, max_size=14), st.booleans())
def test_a_repair_gives_what_was_meant_passes_the_check_and_has_nothing_left_to_do(lines: list[Any], mark: bool) -> None:
    with _folder() as folder:
        (folder / "a").write_bytes(b"\xef\xbb\xbf" * mark + b"".join(line for line, _ in lines))
        report = repair(folder / "a", folder / "b", diff=None, max_line_bytes=LIMIT, completions=True)
        assert report.still_broken.count == 0
        assert _read(folder / "b") == [meant for _, meant in lines]
        assert len(collect("f", folder / "b", role="training", max_line_bytes=LIMIT, sha256="").examples) == len(lines)
        again = repair(folder / "b", folder / "c", diff=folder / "d", max_line_bytes=LIMIT)
        assert again.changes == {}
        assert (folder / "c").read_bytes() == (folder / "b").read_bytes()
        assert (folder / "d").read_bytes() == b""


@settings(deadline=None, max_examples=50)
@given(st.lists(st.binary(max_size=60) | broken_lines().map(lambda entry: entry[0]), max_size=8))
def test_repairing_any_bytes_twice_is_repairing_once(pieces: list[bytes]) -> None:
    with _folder() as folder:
        (folder / "a").write_bytes(b"".join(pieces))
        first = repair(folder / "a", folder / "b", diff=None, max_line_bytes=LIMIT)
        again = repair(folder / "b", folder / "c", diff=None, max_line_bytes=LIMIT)
        assert again.changes == {}
        assert again.still_broken.count == first.still_broken.count


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.sampled_from(["yes", "no"])), min_size=12, max_size=60),
    st.floats(0.1, 0.9),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_a_split_parts_the_rows_by_their_content(rows: list[Any], share: float, seed: int, shuffled: random.Random) -> None:
    # Prompts of one letter are equal but for spaces and a full stop; no row stands there twice.
    made = [
        {"prompt": f"the{' ' * number}letter {letter}{'.' * (number % 3)}", "completion": answer}
        for number, (letter, answer) in enumerate(rows, start=1)
    ]
    moved = list(made)
    shuffled.shuffle(moved)
    sides: list[tuple[list[str], list[str]]] = []
    with _folder() as folder:
        for name, order in (("a", made), ("b", moved)):
            _write(folder / name, order)
            try:
                split(folder / name, folder / f"{name}.t", folder / f"{name}.v", share=share, seed=seed, max_line_bytes=LIMIT)
            except BadRows:
                sides.append(([], []))
                continue
            train, valid = _read(folder / f"{name}.t"), _read(folder / f"{name}.v")
            assert sorted(map(json.dumps, train + valid)) == sorted(map(json.dumps, made))
            assert {normal(row["prompt"]) for row in train}.isdisjoint(normal(row["prompt"]) for row in valid)
            assert len(valid) <= max(1, round(len(made) * share))
            sides.append((sorted(map(json.dumps, train)), sorted(map(json.dumps, valid))))
    assert sides[0] == sides[1]
    if len({letter for letter, _ in rows}) > 8 and 0.4 < share < 0.6:
        assert sides[0] != ([], [])
