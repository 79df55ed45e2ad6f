"""What must hold for every redacted file: rows stay rows of the same shape, nothing private is left, twice is once."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.redact import Redactor, redact

PRIVATE = st.sampled_from(
    [
        *("ann.lee@mail.org", "ANN.LEE@mail.org", "+33 6 12 34 56 78", "415-286-4371", "4539 1488 0343 6467", "81.2.69.142"),
        *("DE89370400440532013000", "536-90-4399", "postgres://ann:Tr0ub4dor3@db.mail.org/x", "sk-" + "9f8b3c1d7e5a4f60b2c8d9e1a7f35b64"),
    ]
)
PLAIN = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
TEXT = st.lists(PLAIN | PRIVATE | st.sampled_from([" ", "\n", '"', "\\", "é", "[EMAIL_3]", "{", "(", ":", ".", "-"]), max_size=6).map("".join)
VALUE = st.recursive(TEXT | st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [_shape(inner) for inner in value.values()]
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return "leaf" if isinstance(value, int | str) and not isinstance(value, bool) else value


@settings(deadline=None, max_examples=150)
@given(st.lists(st.dictionaries(TEXT, VALUE, min_size=1, max_size=3), min_size=1, max_size=4), st.booleans())
def test_rows_keep_their_shape_and_nothing_private_is_left(rows: list[Any], ascii_only: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, once, twice = (Path(name) / f"{n}.jsonl" for n in range(3))
        path.write_text("".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), encoding="utf-8", newline="")
        done = redact(path, once, max_line_bytes=1 << 20)
        redacted = [json.loads(line) for line in once.read_bytes().split(b"\n")[:-1]]
        assert _shape(redacted) == _shape(rows)
        assert redact(once, twice, max_line_bytes=1 << 20).num_changed == 0
        assert twice.read_bytes() == once.read_bytes()
        if not done.num_changed:
            assert once.read_bytes() == path.read_bytes()


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(PRIVATE, PLAIN), max_size=6))
def test_a_text_keeps_all_that_is_not_private(pieces: list[tuple[str, str]]) -> None:
    redactor = Redactor()
    text = "".join(f" {private} , {plain} ," for private, plain in pieces)
    redacted = redactor.redact(text)
    assert (redacted is None) == (not pieces)
    if redacted is not None:
        assert len(redactor.replaced) >= len(pieces)
        assert redactor.redact(redacted) is None
