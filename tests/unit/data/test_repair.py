"""Repair: every cure, what is left alone, and the account of it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.repair import Repair, cure_text, repair
from luthier.data.row_cures import cure_messages
from luthier.data.stage import collect
from luthier.data.text_cures import with_straight_quotes, without_trailing_commas

BROKEN = Path(__file__).resolve().parents[3] / "examples" / "data" / "broken.jsonl"
GOOD = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
LIMIT = 1 << 20


def _repair(folder: Path, content: bytes, *, limit: int = LIMIT, completions: bool = False) -> tuple[Repair, bytes]:
    (folder / "a.jsonl").write_bytes(content)
    report = repair(folder / "a.jsonl", folder / "out.jsonl", diff=folder / "d", max_line_bytes=limit, completions=completions)
    assert (folder / "a.jsonl").read_bytes() == content
    return report, (folder / "out.jsonl").read_bytes()


def test_the_example_is_cured_and_a_job_takes_it(tmp_path):
    report, _ = _repair(tmp_path, BROKEN.read_bytes())
    assert {kind: (lines.count, lines.first) for kind, lines in report.changes.items()} == {
        "byte order mark": (1, [1]),
        "CRLF line end": (1, [1]),
        "role name": (1, [2]),
        "blank line": (1, [3]),
        "trailing comma": (1, [4]),
        "typographic quotes": (1, [5]),
        "tool arguments as an object": (1, [6]),
        "tool arguments encoded twice": (1, [7]),
        "text and label to chat": (1, [8]),
        "prompt and completion to chat": (1, [9]),
    }
    assert (report.num_changed, report.num_lines, report.still_broken.count) == (9, 11, 0)
    assert len(collect("f", tmp_path / "out.jsonl", role="training", max_line_bytes=LIMIT, sha256="").examples) == 10


def test_the_diff_leads_from_the_file_to_the_copy(tmp_path):
    git = shutil.which("git")
    assert git is not None
    _, after = _repair(tmp_path, BROKEN.read_bytes() + b'{"text": "t", "label": 1}')
    names = (tmp_path / "d").read_bytes().replace(b"+++ out.jsonl", b"+++ a.jsonl")
    (tmp_path / "d").write_bytes(names)
    subprocess.run([git, "apply", "--unidiff-zero", "-p0", "d"], cwd=tmp_path, check=True)
    assert (tmp_path / "a.jsonl").read_bytes() == after


def test_a_sound_file_stays_as_it_is_byte_for_byte(tmp_path):
    content = GOOD + '{"prompt":  "\\u00e9 “x,”", "completion": "1,}"}'.encode()
    report, after = _repair(tmp_path, content.replace(GOOD, b""))
    assert report.changes == {}
    assert after == content.replace(GOOD, b"")
    assert (tmp_path / "d").read_bytes() == b""


def test_completions_become_chat_where_formats_mix_or_when_asked(tmp_path):
    row = b'{"prompt": "p", "completion": "c"}\n'
    mixed, after = _repair(tmp_path, GOOD + row)
    assert mixed.changes["prompt and completion to chat"].first == [2]
    assert json.loads(after.splitlines()[1])["messages"][1] == {"role": "assistant", "content": "c"}
    (tmp_path / "b").mkdir()
    asked, _ = _repair(tmp_path / "b", row, completions=True)
    assert asked.num_changed == 1


def test_what_no_cure_helps_stays_and_is_named(tmp_path):
    twice = b'{"messages": [{"role": "bot", "role": "user", "content": "a"}]}\n'
    content = b"{nope\n" + GOOD + b"\xff\n" + twice + b'{"a": "' + b"x" * 200 + b'"}\n' + b"[1]\n"
    report, after = _repair(tmp_path, content, limit=150)
    assert after == content
    assert report.still_broken.first == [1, 3, 5, 6]


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ('{"a": [1, 2,], }', '{"a": [1, 2] }'),
        ('{"a": 1},', '{"a": 1}'),
        ('{"a": "x,}", },', '{"a": "x,}" }'),
        ('{"a": "q\\",]",}', '{"a": "q\\",]"}'),
        ('{"a": "open,}', '{"a": "open,}'),
    ],
)
def test_commas_outside_of_strings_only(broken, whole):
    assert without_trailing_commas(broken) == whole


@pytest.mark.parametrize(
    ("broken", "value"),
    [
        ("{“a”: “b”}", {"a": "b"}),
        ("{”a”: ”b”, “c”: 1}", {"a": "b", "c": 1}),
        ("{„a“: „b“}", {"a": "b"}),
        ("{“a”: “he said “hi”, and left”}", {"a": "he said “hi”, and left"}),
        ('{“a”: “a "plain" one”}', {"a": 'a "plain" one'}),
        ('{"a": "stays “so”", “b”: “\\"x”}', {"a": "stays “so”", "b": '"x'}),
        ("{‘a’: ‘it’s the users’ day’, ‘b’: ‘’}", {"a": "it’s the users’ day", "b": ""}),
        ("{‘a’: ‘he said ‘stop’’}", {"a": "he said ‘stop’"}),
        ('{‘a’: [‘the ‘90s’, ‘’tis’], ‚b‘: ‘say "x"’}', {"a": ["the ‘90s", "’tis"], "b": 'say "x"'}),
        ("{“a”: “it’s ‘so’, ok”, ’b’: ’c’}", {"a": "it’s ‘so’, ok", "b": "c"}),
    ],
)
def test_typographic_quotes_around_strings(broken, value):
    assert json.loads(with_straight_quotes(broken)) == value
    assert cure_text(broken.encode())[1:] == (("typographic quotes",), True)


def test_quotes_that_are_not_certain_stay():
    uncertain = ("{‘a’: ‘the users’, and others’}", "{‘a’: ‘say ‘hi’, ok’}", "{‘a’: ‘open}", "{'a’: 1}", "{‘a’: ‘x\\’}", "{‘it’s’}")
    missed = "{“a”: “a 5“ pipe”, “b”: “c”, “d”: “x” y”}"
    for text in (missed, "{“a: 1}", '{“a”: "open}', *uncertain):
        assert cure_text(text.encode()) == (text.encode(), (), False)


def test_apostrophes_in_a_sound_line_or_a_straight_string_stay(tmp_path):
    sound = '{"prompt": "It’s ‘so’, ‘b’: ‘c’", "completion": "users’, ’"}'
    report, after = _repair(tmp_path, f"{sound}\n".encode() + sound[:-1].encode() + b",}")
    assert after.decode() == f"{sound}\n{sound}"
    assert list(report.changes) == ["trailing comma"]


def test_arguments_that_are_text_stay():
    for arguments in ('"a text"', '{"a": 1}', "not json", '"not json', '"[1]"'):
        row = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]}
        assert cure_messages(row) == []


def test_unknown_roles_stay_and_preference_rows_are_cured():
    row = {"input": {"messages": [{"role": "Human"}, {"role": "wizard"}]}, "preferred_output": [{"role": "GPT"}]}
    assert cure_messages(row) == ["role name"]
    assert row == {"input": {"messages": [{"role": "user"}, {"role": "wizard"}]}, "preferred_output": [{"role": "assistant"}]}


def test_never_in_place(tmp_path):
    (tmp_path / "a").write_bytes(GOOD)
    for output, diff in (("a", None), ("b", "a"), ("b", "b"), ("none/b", None)):
        with pytest.raises(InvalidRequest):
            repair(tmp_path / "a", tmp_path / output, diff=tmp_path / diff if diff else None, max_line_bytes=LIMIT)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == GOOD
