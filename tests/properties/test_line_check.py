"""The fast judgement of an upload's lines never lets pass what the parser that decides would refuse, nor refuses more."""

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from luthier.api.line_check import _check
from luthier.core.jsonl import JsonlCheck

_SEEDS = (
    b'{"messages":[{"role":"user","content":"a\\u00e9\\ud83d\\ude00 x\\n"},{"w":1.5e3,"n":null,"t":true,"z":-0,"l":[1,2,[]]}]}',
    '{"é":"ü😀", "k":[1,2,3,{"a":"b\\\\"}]}'.encode(),
    b'{"a":123456789012345678901234567890,"b":0.1e-5}',
)
_BYTES = st.sampled_from([*b'{}[]",:\\u0dDc8eE+-.19 tfn\x00\x1f\x7f\x80\xc2\xed\xa0\xf0\xff\t\r\n'])
_NESTED = b'{"a":' + b"[" * 1100 + b"]" * 1100 + b"}"


@st.composite
def nearly_json(draw: st.DrawFn) -> bytes:
    """A row with up to three bytes changed, put in or left out."""
    row = bytearray(draw(st.sampled_from(_SEEDS)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(row) - 1))
        row[at : at + draw(st.integers(0, 1))] = bytes(draw(st.lists(_BYTES, max_size=1)))
    return bytes(row)


def verdict(check: JsonlCheck, data: bytes) -> str | None:
    check.feed(data)
    return check.finish()


@given(st.lists(nearly_json(), min_size=1, max_size=4))
@example([b'{"a":"\\ud800"}'])
@example([b'{"a":NaN}'])
@example([b'{"a":1e999}'])
@example([b'{"a":"\xff"}'])
@example([b'{"a":"\xed\xa0\x80"}'])
@example([b'{"a":"\x01"}'])
@example([b'{"a":1}{"b":2}'])
@example([b'{"a":1}\xef\xbb\xbf'])
@example([b'\xef\xbb\xbf{"a":1}', b'\xef\xbb\xbf{"a":1}'])
@example([_NESTED])
@example([b'{"a":"' + b"x" * (1 << 20) + b'"}', b"[]"])
def test_the_verdict_is_that_of_the_parser_that_decides(rows: list[bytes]) -> None:
    data = b"\n".join(rows)
    limit = 4 << 20
    assert verdict(_check(limit), data) == verdict(JsonlCheck(orjson.loads, max_line_bytes=limit), data)
