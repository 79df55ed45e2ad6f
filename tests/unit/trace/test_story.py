"""The log without its steps: the same view, whatever a crash, a resume or an older version left behind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import Notice, Payload, RunStarted, TraceEvent
from luthier.trace.levels import FOLDER, LevelWriter, count_steps
from luthier.trace.reader import read_events
from luthier.trace.story import LOG, NAME, StoryWriter, story_view, write_story
from luthier.trace.view import view_of
from luthier.trace.writer import TraceWriter
from tests.support.trace_goldens import logs
from tests.support.trace_logs import BASE, MODEL, epoch, events_of, step, whole_run


def _attempt(run_dir: Path, events: Sequence[TraceEvent]) -> None:
    """One process's part of a run, with its sinks in the order of ``worker/attempt.py``."""
    writer = TraceWriter(run_dir / LOG)
    story, levels = StoryWriter(run_dir, next_id=writer.next_id), LevelWriter(run_dir)
    for event in events:
        for sink in (story, writer, levels):
            sink(event)
    for sink in (story, writer, levels):
        sink.close()


def _plain(view: Any) -> Any:
    return json.loads(json.dumps({**view.to_dict(), "steps": []}))


def _of_log(run_dir: Path) -> Any:
    return _plain(view_of(read_events(run_dir / LOG)[0]))


def _of_story(run_dir: Path) -> Any:
    view = story_view(run_dir)
    assert view is not None
    assert view.steps == {}
    return _plain(view)


@pytest.mark.parametrize("name", logs())
def test_the_story_gives_the_view_of_the_log(name: str, tmp_path: Path) -> None:
    events = logs()[name]
    _attempt(tmp_path, events)
    assert _of_story(tmp_path) == _of_log(tmp_path)
    assert count_steps(tmp_path) == len(view_of(events).steps)
    assert b'"StepDone"' not in (tmp_path / FOLDER / NAME).read_bytes()


def test_at_any_time_a_reader_sees_what_the_log_has(tmp_path: Path) -> None:
    writer = TraceWriter(tmp_path / LOG)
    story = StoryWriter(tmp_path, next_id=1)
    for event in whole_run():
        story(event)
        # The story is ahead of the log by one event here: the reader must not know it yet.
        assert _of_story(tmp_path) == _of_log(tmp_path)
        writer(event)
        assert _of_story(tmp_path) == _of_log(tmp_path)


def _run(steps: int, loss: dict[int, float], *, resumed_from: int = 0, per_epoch: int = 10, first_id: int = 1) -> list[TraceEvent]:
    """Steps from the resumed one on, with an end for each whole epoch; losses of 1 but for those given."""
    said: list[tuple[Stage, Payload]] = [(Stage.TRAINING, RunStarted(model=MODEL, base=BASE, attempt=1, resumed_from_step=resumed_from))]
    for number in range(resumed_from + 1, steps + 1):
        done = step(number, loss.get(number, 1.0), total=99, epoch=1 + (number - 1) // per_epoch)
        said.append((Stage.TRAINING, replace(done, lines=(number, number + 100))))
        if number % per_epoch == 0:
            said.append((Stage.TRAINING, epoch(number // per_epoch, 1.0, 1.0, steps=per_epoch)))
    return events_of(said, first_id=first_id)


def _next_id(run_dir: Path) -> int:
    return read_events(run_dir / LOG)[0][-1].id + 1


def test_a_resumed_run_knows_the_steps_before_it(tmp_path: Path) -> None:
    # A spike of epoch 2 that the first attempt told, and one that it told but the second did better.
    _attempt(tmp_path, _run(19, {15: 9.0, 18: 20.0}))
    _attempt(tmp_path, _run(30, {27: float("nan")}, resumed_from=17, first_id=_next_id(tmp_path)))
    # The third goes back further, behind the spike's epoch, and so far that the spike is gone.
    assert "jumped to 9.00 at step 15" in _of_story(tmp_path)["epochs"][1]["observation"]
    assert "at step 27" in _of_story(tmp_path)["epochs"][2]["observation"]
    assert _of_story(tmp_path) == _of_log(tmp_path)
    _attempt(tmp_path, _run(30, {}, resumed_from=12, first_id=_next_id(tmp_path)))
    assert "jumped" not in _of_story(tmp_path)["epochs"][1]["observation"]
    assert _of_story(tmp_path) == _of_log(tmp_path)


def test_what_a_crash_left_is_mended_by_the_next_attempt(tmp_path: Path) -> None:
    events = whole_run()
    _attempt(tmp_path, events[:-2])
    path = tmp_path / FOLDER / NAME
    before = path.read_bytes()
    # An event that the log never got, and half of another.
    lost = events_of([(Stage.TRAINING, Notice(level="info", message="never in the log"))], first_id=events[-2].id)
    story = StoryWriter(tmp_path, next_id=events[-2].id)
    story(lost[0])
    story.close()
    with path.open("ab") as file:
        file.write(b'{"schema":1,"id":')
    assert _of_story(tmp_path) == _of_log(tmp_path)
    _attempt(tmp_path, events[-2:])
    assert path.read_bytes().startswith(before)
    assert _of_story(tmp_path) == _of_log(tmp_path) == _plain(view_of(events))


def test_a_run_of_before_there_were_stories_gets_one(tmp_path: Path) -> None:
    assert story_view(tmp_path) is None
    writer = TraceWriter(tmp_path / LOG)
    for event in whole_run():
        writer(event)
    assert story_view(tmp_path) is None
    write_story(tmp_path)
    assert _of_story(tmp_path) == _of_log(tmp_path)
    (tmp_path / FOLDER / NAME).unlink()
    # One that is not over gets it from its next attempt.
    _attempt(tmp_path, events_of([(Stage.TRAINING, Notice(level="info", message="on"))], first_id=writer.next_id))
    assert _of_story(tmp_path)["notices"][-1]["message"] == "on"
    assert _of_story(tmp_path) == _of_log(tmp_path)
