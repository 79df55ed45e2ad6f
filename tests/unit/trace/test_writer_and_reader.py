"""The log: whole lines, growing ids, and what a crash leaves behind."""

import json
import threading
import time
from pathlib import Path

import pytest

from luthier.core.stage import Stage
from luthier.trace import reader
from luthier.trace.events import Notice, TraceEvent
from luthier.trace.reader import LogTail, last_id, read_events
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter
from tests.support.trace_logs import events_of, step, whole_run


def _notice(text: str, number: int = 1) -> TraceEvent:
    return events_of([(Stage.TRAINING, Notice(level="info", message=text))], first_id=number)[0]


def _write(path: Path, *texts: str) -> None:
    writer = TraceWriter(path)
    tracer = Tracer("ftjob-abc", (writer,), next_id=writer.next_id)
    for text in texts:
        tracer.emit(Stage.TRAINING, Notice(level="info", message=text))
    writer.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "run" / "trace.jsonl"
    writer = TraceWriter(path)
    assert writer.next_id == 1
    events = whole_run()
    for event in events:
        writer(event)
    assert writer.next_id == len(events) + 1
    assert read_events(path) == (tuple(events), False)


def test_missing_log_is_empty(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == ((), False)


def test_pages_follow_each_other_without_gap(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, *(f"n{i}" for i in range(7)))
    seen: list[int] = []
    after, more = 0, True
    while more:
        events, more = read_events(path, after=after, limit=3)
        seen += [e.id for e in events]
        after = events[-1].id
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert read_events(path, after=7, limit=3) == ((), False)
    assert read_events(path, after=4, limit=3)[1] is False


def test_threads_that_emit_at_once_leave_one_growing_row_of_ids(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / "trace.jsonl")
    tracer = Tracer("ftjob-abc", (writer, lambda _: time.sleep(0)), next_id=writer.next_id)

    def emit(name: str) -> None:
        for number in range(50):
            tracer.emit(Stage.TRAINING, Notice(level="info", message=f"{name} {number}"))

    threads = [threading.Thread(target=emit, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    events, _ = read_events(tmp_path / "trace.jsonl")
    assert [e.id for e in events] == list(range(1, 201))
    texts = [e.payload.message for e in events if isinstance(e.payload, Notice)]
    assert sorted(texts) == sorted(f"{name} {number}" for name in "abcd" for number in range(50))


def test_a_second_writer_goes_on_with_the_ids(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, "one", "two")
    _write(path, "three")
    assert [(e.id, getattr(e.payload, "message", "")) for e in read_events(path)[0]] == [(1, "one"), (2, "two"), (3, "three")]


@pytest.mark.parametrize("torn", [b"{", b'{"schema":1,"id":3,"run":"x', b"\x00\x00\x00", b"[1]\n", b"\x00\x00\n"])
def test_a_torn_tail_is_cut_off_and_its_id_used_again(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, "one", "two")
    with path.open("ab") as file:
        file.write(torn)
    assert [e.id for e in read_events(path)[0]] == [1, 2]
    _write(path, "three")
    assert [e.id for e in read_events(path)[0]] == [1, 2, 3]
    assert all(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("size", [0, 10, 70_000, 300_000])
def test_recovery_looks_back_as_far_as_it_must(tmp_path: Path, size: int) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, "one", "x" * size)
    with path.open("ab") as file:
        file.write(b"y" * size)
    assert TraceWriter(path).next_id == 3


def test_a_log_of_one_torn_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b'{"schema":1,"id":1')
    assert TraceWriter(path).next_id == 1
    assert path.read_bytes() == b""


def test_unknown_events_and_fields_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, "one")
    line = json.loads(path.read_text(encoding="utf-8"))
    later = [
        {**line, "id": 2, "type": "NotYetKnown"},
        {**line, "id": 3, "data": {"level": "info", "message": "three", "new_field": 1}},
        {"something": "else"},
    ]
    path.write_text("".join(json.dumps(x) + "\n" for x in [line, *later]), encoding="utf-8")
    assert [(e.id, getattr(e.payload, "message", "")) for e in read_events(path)[0]] == [(1, "one"), (3, "three")]


def test_numbers_without_a_json_form_become_null(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path)(events_of([(Stage.TRAINING, step(1, float("nan"), valid=float("inf")))])[0])
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    assert (data["loss"], data["valid_loss"], data["token_accuracy"]) == (None, None, 0.5)


def test_half_a_character_does_not_break_the_log(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    TraceWriter(path)(_notice("half \ud83d and é"))
    ((event,), _) = read_events(path)
    assert getattr(event.payload, "message", "") == "half ? and é"


def test_lines_stay_whole_under_many_threads(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    writer = TraceWriter(path)

    def write(offset: int) -> None:
        for i in range(50):
            writer(_notice("x" * 200, offset + i))

    threads = [threading.Thread(target=write, args=(1 + 50 * t,)) for t in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_bytes().splitlines()
    assert sorted(json.loads(line)["id"] for line in lines) == list(range(1, 201))


def test_a_long_log_is_entered_at_the_id_and_not_read_from_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.jsonl"
    _write(path, *(f"{'long ' * (i % 7 * 40)}{i}" for i in range(2_000)))
    with path.open("ab") as file:
        file.write(b"no event\n" * 5)
    assert last_id(path) == 2_000
    assert path.stat().st_size > 1_000_000
    decoded: list[int] = []
    whole = reader.decode_event

    def counted(line: bytes) -> TraceEvent | None:
        decoded.append(len(line))
        return whole(line)

    for after in (0, 1, 2, 999, 1_000, 1_998, 1_999, 2_000, 2_001, 5_000):
        assert [e.id for e in read_events(path, after=after)[0]] == list(range(after + 1, 2_001))
        assert [e.id for e in LogTail(path, after=after).read()] == list(range(after + 1, 2_001))
    monkeypatch.setattr(reader, "decode_event", counted)
    assert [e.id for e in LogTail(path, after=1_990).read()] == list(range(1_991, 2_001))
    assert sum(decoded) < 200_000
    with path.open("ab") as file:
        file.write(b'{"schema":1,"id":2001,"torn')
    assert last_id(path) == 2_000
    assert last_id(tmp_path / "none.jsonl") == 0
