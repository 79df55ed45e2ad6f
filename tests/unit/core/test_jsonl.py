import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.jsonl import JsonlCheck


def fault_of(data: bytes, *, pieces: int = 1, max_line_bytes: int = 1000) -> str | None:
    check = JsonlCheck(json.loads, max_line_bytes=max_line_bytes)
    size = max(1, len(data) // pieces)
    for start in range(0, len(data), size):
        check.feed(data[start : start + size])
    return check.finish()


@pytest.mark.parametrize("data", [b"", b"{}", b"{}\n", b"{}\r\n{}\n\n \n", b"\xef\xbb\xbf{}\n", '{"a": "\u2028"}\n'.encode()])
@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_good_files_have_no_fault(data: bytes, pieces: int) -> None:
    assert fault_of(data, pieces=pieces) is None


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_the_fault_names_the_line_and_its_start(pieces: int) -> None:
    fault = fault_of(b'{}\n{"a": 1}\n["an array that is quite long"]\n{}\n', pieces=pieces)
    assert fault == (
        "Expected file to have JSONL format, where every line is a JSON dictionary. "
        'Line 3 is not a dictionary (HINT: line starts with: "["an array that is q...").'
    )


@pytest.mark.parametrize(("data", "line"), [(b"{}\n\n{}", 2), (b"\n{}", 1), (b"1", 1), (b"{}\n{", 2), (b"{}\xef\xbb\xbf\n", 1)])
def test_faults(data: bytes, line: int) -> None:
    assert f"Line {line} is not a dictionary" in (fault_of(data) or "")


@pytest.mark.parametrize("pieces", [1, 7])
def test_lines_have_a_longest_length(pieces: int) -> None:
    assert fault_of(b"{}\n" + b" " * 99 + b"{}\n", max_line_bytes=100, pieces=pieces) == "Line 2 is longer than the maximum of 100 bytes."
    assert fault_of(b"{}\n" + b"x" * 5000, max_line_bytes=100, pieces=pieces) == "Line 2 is longer than the maximum of 100 bytes."


@given(st.lists(st.dictionaries(st.text(), st.text())), st.integers(1, 50), st.sampled_from(["\n", "\r\n"]))
def test_any_dictionaries_in_any_pieces_pass(rows: list[dict[str, str]], pieces: int, line_end: str) -> None:
    data = "".join(json.dumps(row) + line_end for row in rows).encode()
    assert fault_of(data, pieces=pieces, max_line_bytes=10**6) is None


@given(st.binary(max_size=200), st.integers(1, 50))
def test_pieces_never_change_the_verdict(data: bytes, pieces: int) -> None:
    assert fault_of(data, pieces=pieces) == fault_of(data)
