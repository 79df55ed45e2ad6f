"""Strings and numbers of a JSON line are rewritten where they stand; no other byte changes."""

import json

import pytest

from luthier.data.json_texts import rewrite_texts


def _shout(text: str) -> str | None:
    return text.replace("ann", "[A]") if "ann" in text else None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{ "a" : "ann" , "b":1}', '{ "a" : "[A]" , "b":1}'),
        ('{"ann": {"ann": ["ann", null, "x"]}}', '{"[A]": {"[A]": ["[A]", null, "x"]}}'),
        ('{"a": "é ann", "b": "\\u00e9 ann", "c": "\\u00e9"}', '{"a": "é [A]", "b": "\\u00e9 [A]", "c": "\\u00e9"}'),
        ('{"a": "\\"ann\\"\\n\\\\"}', '{"a": "\\"[A]\\"\\n\\\\"}'),
        ('{"a": "\\u0061nn"}', '{"a": "[A]"}'),
        ('{"a": "{ann"}', '{"a": "{[A]"}'),
    ],
)
def test_only_what_is_rewritten_changes(before: str, after: str) -> None:
    assert rewrite_texts(before.encode(), _shout).decode() == after


def test_a_line_without_it_is_the_same_object() -> None:
    data = b'{"a": "b", "c": "{\\"d\\": 1}"}'
    assert rewrite_texts(data, _shout) is data


def test_json_in_a_string_stays_json_however_often_it_was_encoded() -> None:
    value: object = {"to": "ann", "cc": ["bob"], "said": 'he said "ann"', "number": 1234567}
    line = value
    for _ in range(4):
        line = {"arguments": json.dumps(line)}
        data = json.dumps(line).encode()
        row = json.loads(rewrite_texts(data, lambda text: "[N]" if text == "1234567" else _shout(text)))
        while "arguments" in row:
            row = json.loads(row["arguments"])
        assert row == {"to": "[A]", "cc": ["bob"], "said": 'he said "[A]"', "number": "[N]"}


def test_spaces_in_inner_json_stay() -> None:
    data = json.dumps({"arguments": '{ "to" : "ann" }'}).encode()
    assert json.loads(rewrite_texts(data, _shout))["arguments"] == '{ "to" : "[A]" }'


def test_numbers_become_strings_where_they_are_rewritten() -> None:
    data = b'{"a": 4539148803436467, "b": -4539148803436467.5e3, "c": 12}'
    assert rewrite_texts(data, lambda text: "[N]" if text.isdigit() else None) == b'{"a": "[N]", "b": -4539148803436467.5e3, "c": 12}'


def test_deep_nesting_in_strings_ends() -> None:
    line: object = "ann"
    for _ in range(12):
        line = json.dumps(line)
    data = json.dumps({"a": line}).encode()
    assert b"ann" not in rewrite_texts(data, _shout)
    json.loads(rewrite_texts(data, _shout))
