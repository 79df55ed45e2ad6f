"""Single lines of a file are found and judged exactly as a reader of the whole file finds and judges them."""

import json
import random
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.examples import PreferenceExample, RlExample, RowFormat, SftExample
from luthier.data import chosen_lines
from luthier.data.check import check_file
from luthier.data.chosen_lines import check_lines, count_lines, offsets_of_lines
from luthier.data.read import read_lines

CAP = 10_000
SOUND = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "train.jsonl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("data", "count"), [(b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3), (b"\n", 1), (b"a\r\nb\r\n", 2)])
def test_lines_are_counted_as_people_count_them(tmp_path: Path, data: bytes, count: int) -> None:
    assert count_lines(_file(tmp_path, data)) == count


def test_offsets_are_those_of_splitting_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    for block in (1, 2, 7, 64):
        monkeypatch.setattr(chosen_lines, "_BLOCK_BYTES", block)
        for _ in range(25):
            lines = [b"x" * chance.choice((0, 1, 5, 30)) for _ in range(chance.randrange(0, 12))]
            data = b"\n".join(lines) + chance.choice((b"", b"\n"))
            path = _file(tmp_path, data)
            real = data.split(b"\n")[: count_lines(path)]
            starts = [sum(len(line) + 1 for line in real[:at]) for at in range(len(real))]
            asked = chance.sample(range(1, 15), 8)
            assert offsets_of_lines(path, asked) == {n: starts[n - 1] for n in asked if n <= len(real)}


def test_every_line_is_judged_as_in_the_check_of_the_whole_file(tmp_path: Path) -> None:
    broken = SOUND.replace(b'"assistant"', b'"bot"')
    long = SOUND.replace(b'"b"', b'"' + b"b" * CAP + b'"')
    repeated = SOUND.replace(b'"role": "user"', b'"role": "user", "role": "user"')
    data = b"\n".join(
        [b"\xef\xbb\xbf" + SOUND, broken, b"{,}", b"", long, SOUND + b"\r", repeated, b'{"prompt": "p", "completion": "c"}', SOUND]
    )
    path = _file(tmp_path, data)
    all_findings = []
    check_file(path, role="training", method=None, max_line_bytes=CAP, on_finding=all_findings.append)
    numbers = [9, 2, 3, 1, 4, 5, 6, 7, 8]
    lines = {line.number: line for line in check_lines(path, numbers, method=None, max_line_bytes=CAP)}
    assert list(lines) == numbers
    for number, line in lines.items():
        expected = [f for f in all_findings if f.source.line == number and f.rule != "blank_line"]
        assert list(line.findings) == expected
        assert line.is_blank == (number == 4)
    assert [n for n in sorted(lines) if lines[n].is_sound] == [1, 6, 7, 9]


def test_blank_lines_before_the_first_row_are_not_its_fault(tmp_path: Path) -> None:
    path = _file(tmp_path, b"\n \n" + SOUND + b"\n" + SOUND)
    third, fourth, first = check_lines(path, [3, 4, 1], method=None, max_line_bytes=CAP)
    assert (third.is_sound, third.findings, fourth.is_sound, first.is_blank) == (True, (), True, True)
    assert next(read_lines(path, max_line_bytes=CAP)).number == 3


def test_a_file_of_another_kind_is_told_once(tmp_path: Path) -> None:
    path = _file(tmp_path, b"\x1f\x8b\x08" + b"\n".join([b"rubbish"] * 5))
    (line,) = check_lines(path, [4, 5], method=None, max_line_bytes=CAP)
    assert [finding.rule for finding in line.findings] == ["compressed_file"]
    assert not line.is_sound


def test_a_line_that_is_not_there_is_refused_with_the_number_of_lines(tmp_path: Path) -> None:
    path = _file(tmp_path, SOUND + b"\n")
    with pytest.raises(InvalidRequest, match=r"^train\.jsonl has 1 line; there is no line 2\.$"):
        list(check_lines(path, [1, 2], method=None, max_line_bytes=CAP))
    with pytest.raises(InvalidRequest, match="is empty; there is no line 1"):
        list(check_lines(_file(tmp_path, b""), [1], method=None, max_line_bytes=CAP))


def test_examples_of_every_method(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    asked = [{"role": "user", "content": "q"}]
    pair = {
        "input": {"messages": asked, "tools": [tool]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_completion": [{"role": "assistant", "content": "bad"}],
    }
    (line,) = check_lines(_file(tmp_path, json.dumps(pair).encode()), [1], method=None, max_line_bytes=CAP)
    example = line.example("file-1")
    assert isinstance(example, PreferenceExample)
    assert (line.row_format, example.source.file_id, example.source.line) == (RowFormat.PREFERENCE, "file-1", 1)
    assert (example.preferred.content, example.non_preferred.content) == ("good", "bad")
    assert [m.content for m in example.prompt.messages] == ["q"]
    assert example.prompt.tools == (tool,)

    row = {"messages": asked, "tools": [tool], "answer": 7, "functions": "a key of the row's own"}
    (line,) = check_lines(_file(tmp_path, json.dumps(row).encode()), [1], method="reinforcement", max_line_bytes=CAP)
    example = line.example("file-1")
    assert isinstance(example, RlExample)
    assert example.reference == {"answer": 7, "functions": "a key of the row's own"}
    assert example.prompt.tools == (tool,)

    (line,) = check_lines(_file(tmp_path, SOUND), [1], method=None, max_line_bytes=CAP)
    assert isinstance(line.example("file-1"), SftExample)
