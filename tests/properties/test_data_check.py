"""Whatever a file holds, the check neither fails nor points at the wrong place; a sound row has no faults."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.core.data_faults import RULES
from luthier.core.examples import LineError, RowFormat
from luthier.data.check import check_file
from luthier.data.finding import Finding
from luthier.data.parse import parse_object
from luthier.data.positions import column_of, repeated_keys
from luthier.data.stage import DataFailure, collect
from luthier.data.validate import findings_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
LAYOUT = st.sampled_from(
    [
        {},
        {"ensure_ascii": False},
        {"separators": (",", ":")},
        {"ensure_ascii": False, "separators": (" ,\t", " :  ")},
    ]
)
CAP = 100_000
FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def chat_rows(draw: st.DrawFn) -> dict[str, Any]:
    """A sound chat row."""
    turns = draw(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(TEXT)}] if draw(st.booleans()) else []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"content": answered, "role": "assistant"}]
    return {"messages": messages}


def _check(path: Path, content: bytes) -> list[LineError]:
    path.write_bytes(content)
    found: list[LineError] = []
    check_file(path, role="validation", method="supervised", max_line_bytes=CAP, on_finding=found.append)
    return found


def _value_at(data: bytes, column: int) -> Any:
    """The JSON value whose first byte is at a column."""
    return json.JSONDecoder().raw_decode(data[column - 1 :].decode())[0]


MUTATIONS = {
    "missing_role": lambda message: message.pop("role"),
    "unknown_role": lambda message: message.update(role="robot"),
    "message_extra_key": lambda message: message.update(mood={"a": [1, 2]}),
    "bad_content": lambda message: message.update(content=7),
    "missing_content": lambda message: message.pop("content"),
    "bad_weight": lambda message: message.update(weight=2),
    "bad_name": lambda message: message.update(name=[]),
}
FIELD = {"missing_role": "role", "unknown_role": "role", "message_extra_key": "mood", "bad_weight": "weight", "bad_name": "name"}


@FILES
@given(rows=st.lists(chat_rows(), min_size=1, max_size=4), layout=LAYOUT, end=st.sampled_from(["\n", "\r\n"]))
def test_sound_rows_have_no_findings(tmp_path: Path, rows: list[dict[str, Any]], layout: dict[str, Any], end: str) -> None:
    assert _check(tmp_path / "f.jsonl", end.join(json.dumps(row, **layout) for row in rows).encode()) == []


@FILES
@given(
    rows=st.lists(chat_rows(), min_size=1, max_size=4),
    layout=LAYOUT,
    rule=st.sampled_from(sorted(MUTATIONS)),
    data=st.data(),
)
def test_a_fault_names_its_line_its_path_and_its_column(
    tmp_path: Path, rows: list[dict[str, Any]], layout: dict[str, Any], rule: str, data: st.DataObject
) -> None:
    line = data.draw(st.integers(0, len(rows) - 1))
    index = data.draw(st.integers(0, len(rows[line]["messages"]) - 1))
    message = rows[line]["messages"][index]
    MUTATIONS[rule](message)
    lines = [json.dumps(row, **layout).encode() for row in rows]
    (finding,) = _check(tmp_path / "f.jsonl", b"\n".join(lines))
    field = FIELD.get(rule, "content")
    assert (finding.source.line, finding.rule, finding.path) == (line + 1, rule, f"messages[{index}].{field}")
    assert _value_at(lines[line], finding.column) == message.get(field, message)
    assert finding.message.startswith(f"Example {line + 1}, message {index + 1} ")


@FILES
@given(content=st.binary(max_size=300) | st.lists(st.binary(max_size=40) | JSON.map(orjson.dumps), max_size=6).map(b"\n".join))
def test_no_bytes_break_the_check_and_the_job_agrees(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.jsonl"
    found = _check(path, content)
    errors = [finding for finding in found if RULES[finding.rule].severity == "error"]
    assert all(finding.column >= 1 for finding in found if finding.source.line)
    with pytest.raises(DataFailure) if errors else nullcontext() as caught:
        collect("file-A", path, role="validation", max_line_bytes=CAP, sha256="")
    assert caught is None or errors[0].message in str(caught.value)


@settings(max_examples=50, deadline=None)
@given(
    row=st.dictionaries(st.sampled_from(["messages", "tools", "input", "preferred_output", "prompt"]), JSON),
    kind=st.sampled_from(RowFormat),
)
def test_no_json_breaks_the_rules(row: dict[str, Any], kind: RowFormat) -> None:
    assert all(finding.rule in RULES for finding in findings_of(row, kind))


MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "name", "weight", "tool_calls", "function_call", "refusal", "tool_call_id", "x"]),
    JSON | st.sampled_from(["system", "user", "assistant", "tool", "function", 0, 1]),
)


@settings(max_examples=50, deadline=None)
@given(messages=st.lists(MESSAGE | JSON, max_size=4), kind=st.sampled_from(RowFormat))
def test_no_messages_break_the_rules(messages: list[Any], kind: RowFormat) -> None:
    row = {"messages": messages, "input": {"messages": messages}, "preferred_output": messages, "non_preferred_output": messages[:1]}
    findings_of(row, kind)
    findings_of({"messages": messages}, RowFormat.CHAT)


@given(value=JSON, layout=LAYOUT, data=st.data())
def test_a_column_is_where_the_value_begins(value: Any, layout: dict[str, Any], data: st.DataObject) -> None:
    row = {"a": 0, "top": value}
    steps: list[str | int] = ["top"]
    while isinstance(value, list | dict) and value and data.draw(st.booleans()):
        step = data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
        steps.append(step)
        value = value[step]
    text = json.dumps(row, **layout).encode()
    assert _value_at(text, column_of(text, steps)) == value
    assert _value_at(text, column_of(text, [*steps, "gone\ud800"])) == value


@given(value=JSON, layout=LAYOUT)
def test_repeated_keys_are_found_where_they_stand(value: Any, layout: dict[str, Any]) -> None:
    text = json.dumps({"first": value, "again": 1, "more": {"again": value}}, **layout)
    assert list(repeated_keys(text.encode())) == []
    twice = text.replace('"more"', '"again"', 1) if '"more"' not in json.dumps(value) else None
    if twice is not None:
        ((path, column),) = repeated_keys(twice.encode())
        assert path == ("again",)
        assert twice.encode()[column - 1 :].startswith(b'"again"')


@given(data=st.binary(max_size=60) | JSON.map(lambda value: orjson.dumps({"a": value})[:-1]))
def test_a_line_is_parsed_or_named(data: bytes) -> None:
    outcome = parse_object(data)
    if isinstance(outcome, Finding):
        assert outcome.rule in RULES
        assert 0 <= outcome.column <= len(data) + 1


@pytest.mark.parametrize("depth", [400, 900, 1023])
def test_deep_but_legal_nesting_is_located_without_recursion(depth: int) -> None:
    data = b'{"messages": ' + b"[" * depth + b"]" * depth + b', "x": 1, "x": 2}'
    assert isinstance(parse_object(data), dict)
    assert column_of(data, ["x"]) == len(data) - 1
    assert [path for path, _ in repeated_keys(data)] == [("x",)]
