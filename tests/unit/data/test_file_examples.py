"""Examples are read again from the file, as the check saw them, and the memory they take is that of their places."""

import pickle
import tracemalloc

import orjson
import pytest

from luthier.core.examples import RowFormat, SourceLine
from luthier.data.stage import collect


def _row(number: int, text: str = "") -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}{text}"}]})


def _collect(path, content: bytes):
    path.write_bytes(content)
    return collect("file-A", path, role="training", max_line_bytes=100_000, sha256="")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("between", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\n", b"\r\n \n"])
def test_every_row_is_found_again(tmp_path, start, between, end):
    content = start + between.join(_row(n, "\u2028é") for n in range(12)) + end
    examples = _collect(tmp_path / "f.jsonl", content).examples
    assert len(examples) == 12
    for n, example in enumerate(examples):
        assert example == examples[n]
        assert example.source == SourceLine("file-A", n + 1)
        assert [m.content for m in example.conversation.messages] == [f"q{n}", f"a{n}\u2028é"]
    assert examples[-1] == examples[11]
    assert list(examples[2:9:3]) == [examples[2], examples[5], examples[8]]
    assert list(pickle.loads(pickle.dumps(examples[2:9:3]))) == [examples[2], examples[5], examples[8]]


def test_rows_of_prompt_and_completion_are_found_again(tmp_path):
    content = b"\n".join(orjson.dumps({"prompt": f"p{n}", "completion": f" c{n}"}) for n in range(10))
    dataset = _collect(tmp_path / "f.jsonl", content)
    assert dataset.row_format is RowFormat.PROMPT_COMPLETION
    assert [[m.content for m in e.conversation.messages] for e in dataset.examples] == [[f"p{n}", f" c{n}"] for n in range(10)]


def test_a_job_keeps_its_file_when_it_is_deleted(tmp_path):
    path = tmp_path / "f.jsonl"
    examples = _collect(path, b"\n".join(_row(n) for n in range(10))).examples
    path.unlink()
    assert [e.conversation.messages[0].content for e in examples] == [f"q{n}" for n in range(10)]


def test_memory_does_not_grow_with_the_text(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"\n".join(_row(n, "long " * 4000) for n in range(1000)))  # 20 MB
    tracemalloc.start()
    try:
        dataset = collect("file-A", path, role="training", max_line_bytes=100_000, sha256="")
        assert sum(len(e.conversation.messages) for e in dataset.examples) == 2000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
