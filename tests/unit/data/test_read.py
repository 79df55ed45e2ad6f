"""Lines are split on the byte \\n alone, and a line over the cap is never held."""

import tracemalloc

import pytest

from luthier.data.read import RawLine, read_lines


def _lines(tmp_path, content: bytes, cap: int = 1000) -> list[RawLine]:
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    return list(read_lines(path, max_line_bytes=cap))


@pytest.mark.parametrize(
    "content",
    [b"{}\n{}\n", b"{}\n{}", b"{}\r\n{}\r\n", b"\xef\xbb\xbf{}\n{}\n", b"{}\n{}\n\n", b"{}\n{}\r\n  \n"],
    ids=["plain", "no last newline", "crlf", "byte order mark", "blank last line", "line of spaces"],
)
def test_the_same_two_lines_come_out_of_every_way_to_end_a_line(tmp_path, content):
    assert _lines(tmp_path, content) == [RawLine(1, b"{}"), RawLine(2, b"{}")]


def test_unicode_line_separators_stay_inside_their_line(tmp_path):
    text = '{"a":"x\u2028y\u0085z\u001cw"}'.encode()
    assert _lines(tmp_path, text + b"\n" + text) == [RawLine(1, text), RawLine(2, text)]


def test_blank_lines_count_in_the_numbering(tmp_path):
    assert [line.number for line in _lines(tmp_path, b"{}\n\n{}\n")] == [1, 3]


def test_a_line_of_exactly_the_cap_passes_and_one_byte_more_does_not(tmp_path):
    for end in (b"\n", b"\r\n", b""):
        assert _lines(tmp_path, b"x" * 10 + end, cap=10) == [RawLine(1, b"x" * 10)]
        assert _lines(tmp_path, b"x" * 11 + end, cap=10) == [RawLine(1, None)]


def test_the_line_after_a_line_over_the_cap_is_read_whole(tmp_path):
    content = b"x" * 300_000 + b"\nafter\n"
    assert _lines(tmp_path, content, cap=10) == [RawLine(1, None), RawLine(2, b"after")]


def test_a_huge_line_takes_constant_memory(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"x" * 30_000_000)
    tracemalloc.start()
    assert list(read_lines(path, max_line_bytes=1000)) == [RawLine(1, None)]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_the_watcher_sees_every_byte(tmp_path):
    content = b"\xef\xbb\xbf{}\r\n\n" + b"y" * 200_000 + b"\n{}"
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    seen: list[bytes] = []
    list(read_lines(path, max_line_bytes=10, watch=seen.append))
    assert b"".join(seen) == content
