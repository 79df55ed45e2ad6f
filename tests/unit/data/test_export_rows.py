"""Export: what each format can hold, and that the rest is named."""

import json
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.export_rows import export_rows
from luthier.data.import_rows import BadRows

SYSTEM = {"role": "system", "content": "s"}
USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}


class Exporter:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.notes: list[str] = []

    def run(self, *rows: object, form: str, skip_bad: bool = False) -> str:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (self.folder / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
        export_rows(self.folder / "in.jsonl", self.output, form=form, skip_bad=skip_bad, max_line_bytes=1000, note=self.notes.append)
        return self.output.read_bytes().decode()


@pytest.fixture
def exports(tmp_path: Path) -> Exporter:
    return Exporter(tmp_path)


def test_csv(exports):
    text = exports.run({"prompt": 'a, "b"', "completion": "c\r\nd"}, {"messages": [SYSTEM, USER, ANSWER]}, form="csv")
    assert text == 'system,prompt,completion\n,"a, ""b""","c\r\nd"\ns,q,a\n'


def test_alpaca(exports):
    rows = json.loads(exports.run({"messages": [USER, ANSWER]}, {"messages": [SYSTEM, USER, ANSWER]}, form="alpaca"))
    plain = {"instruction": "q", "input": "", "output": "a"}
    assert rows == [plain, {**plain, "system": "s"}]


def test_sharegpt(exports):
    (row,) = json.loads(exports.run({"messages": [USER, ANSWER, USER, ANSWER]}, form="sharegpt"))
    assert [(turn["from"], turn["value"]) for turn in row["conversations"]] == [("human", "q"), ("gpt", "a")] * 2


def test_sharegpt_holds_calls_their_answers_and_tools(exports):
    tool = {"type": "function", "function": {"name": "f", "description": "é"}}
    calls = [{**CALL, "id": "call_1", "function": {"name": "f", "arguments": '{"a":1}'}}, CALL]
    talk = [USER, _calls(*calls, content="See."), _answer("call_1", "one"), _answer("c", '{"two": 2}'), ANSWER]
    (row,) = json.loads(exports.run({"messages": talk, "tools": [tool]}, form="sharegpt"))
    assert [(turn["from"], turn["value"]) for turn in row["conversations"]] == [
        ("human", "q"),
        ("gpt", "See."),
        ("function_call", '[{"name": "f", "arguments": {"a": 1}}, {"id": "c", "name": "f", "arguments": {}}]'),
        ("observation", '["one", "{\\"two\\": 2}"]'),
        ("gpt", "a"),
    ]
    assert row["tools"] == '[{"name": "f", "description": "é"}]'


def _calls(*calls: object, **more: object) -> dict[str, object]:
    return {"role": "assistant", "tool_calls": list(calls), **more}


def _answer(call_id: str, text: str) -> dict[str, object]:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
NOT_HELD = [
    ("csv", {"messages": [USER, ANSWER, USER, ANSWER]}, "not one question and one answer"),
    ("csv", {"messages": [{"role": "user", "content": ""}, ANSWER]}, "an empty message"),
    ("alpaca", {"messages": [USER, {**ANSWER, "weight": 1}]}, "a message with 'weight'"),
    ("csv", {"messages": [USER, {"role": "assistant", "tool_calls": [CALL]}]}, "a message with 'tool_calls'"),
    ("sharegpt", {"messages": [USER, ANSWER, _calls(CALL)]}, "calls right after another answer"),
    ("sharegpt", {"messages": [USER, {**ANSWER, "content": '<tool_call>{"name": "f"}</tool_call>'}]}, "looks like a tool call"),
    ("sharegpt", {"messages": [USER, _calls({**CALL, "function": {"name": "f", "arguments": '"{}"'}})]}, "are no JSON object"),
    ("sharegpt", {"messages": [USER, _calls(CALL), _answer("c", "<tool_response>x</tool_response>"), ANSWER]}, "come back as it is"),
    ("sharegpt", {"messages": [USER, _calls(CALL, {**CALL, "id": "d"}), _answer("d", "x"), _answer("c", "y"), ANSWER]}, "another order"),
    ("sharegpt", {"messages": [USER, _calls(CALL, {**CALL, "id": "d"}), _answer("c", "x")]}, "not to all of them"),
    ("sharegpt", {"messages": [USER, {"role": "assistant", "function_call": CALL["function"]}]}, "a message with 'function_call'"),
    ("sharegpt", {"messages": [USER, ANSWER], "parallel_tool_calls": True}, "has 'parallel_tool_calls'"),
    ("sharegpt", {"messages": [{"role": "function", "name": "f", "content": "x"}, ANSWER]}, "a message with 'name'"),
    ("sharegpt", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}, ANSWER]}, "a content in parts"),
    ("csv", "{nope", "is not valid JSON"),
    ("csv", {"messages": [USER]}, "has no assistant message"),
    ("csv", {"prompt": "x" * 2000, "completion": "y"}, "is longer than 1000 bytes"),
]


@pytest.mark.parametrize(("form", "row", "words"), NOT_HELD)
def test_what_a_format_cannot_hold_is_named_with_its_line(exports, form, row, words):
    good = {"messages": [USER, ANSWER]}
    with pytest.raises(BadRows, match="1 of 2 rows cannot be written"):
        exports.run(good, row, form=form)
    (note,) = exports.notes
    assert note.startswith("line 2 ")
    assert words in note
    assert not exports.output.exists()
    whole = exports.run(good, form=form)
    exports.output.unlink()
    assert exports.run(row, good, form=form, skip_bad=True) == whole


def test_nothing_to_export_and_a_name_that_is_taken(exports):
    with pytest.raises(BadRows, match="no row to export"):
        exports.run(form="alpaca")
    exports.output.write_text("mine")
    with pytest.raises(InvalidRequest, match="exists already"):
        exports.run({"messages": [USER, ANSWER]}, form="csv")
    assert exports.output.read_text() == "mine"
