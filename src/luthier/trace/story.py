"""A run's log without its steps, kept beside it as it is written, for the views that draw no single step.

What it does: ``StoryWriter`` is a sink of the tracer that writes every event but the steps, as the log has it, and with each epoch's end
what the rules need to know of its steps (``step_watch.py``); ``story_view`` folds it, so that a view of a run of a million steps reads
some hundred lines. What it does not: hold the truth (the log does; ``write_story`` makes the file of it), or the series of charts
(``levels.py``). Written in ``worker/attempt.py``, read by ``api/job_view.py``.

File ``RUN/levels/story``: lines of the log, and notes ``{"id": N, ...}`` made with event N.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luthier.trace.events import EpochDone, RunStarted, StepDone, TraceEvent
from luthier.trace.levels import FOLDER
from luthier.trace.reader import decode_event, each_event, last_id
from luthier.trace.step_watch import Spike, StepFacts, StepWatch
from luthier.trace.view import TraceView
from luthier.trace.writer import encode_event

LOG = "trace.jsonl"
NAME = "story"
_ID = re.compile(rb'"id":(\d+)')


class StoryWriter:
    """A sink of the tracer, before the log's own: an event that the log has is in the story, so that a reader of both misses none."""

    def __init__(self, run_dir: Path, *, next_id: int) -> None:
        """``next_id``: of the log, which knows better: what a crash left beyond it is cut off, a missing story is made of it."""
        self._run_dir, self._watch, self._first_told = run_dir, StepWatch(), False
        path = run_dir / FOLDER / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.exists()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        if known:
            os.ftruncate(self._file, self._sound_end(path, next_id))
        elif next_id > 1:
            for event in each_event(run_dir / LOG):
                self(event)

    def __call__(self, event: TraceEvent) -> None:
        """Take one event.

        Raises:
            OSError: the disk is full or gone.
        """
        payload = event.payload
        if isinstance(payload, StepDone):
            self._watch.take(payload)
            if not self._first_told:
                self._first_told = True
                os.write(self._file, _note(event.id, first_step_at=event.time))
            return
        if isinstance(payload, RunStarted) and payload.resumed_from_step:
            self._watch = _watch_at(self._run_dir / LOG, payload.resumed_from_step)
        line = encode_event(event)
        if isinstance(payload, EpochDone):
            line = _note(event.id, epoch=payload.epoch, steps=dataclasses.asdict(self._watch.facts(payload.epoch))) + line
        os.write(self._file, line)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _sound_end(self, path: Path, next_id: int) -> int:
        end = 0
        for line, number in _lines(path):
            if number >= next_id:
                break
            end += len(line)
            self._first_told = self._first_told or b'"first_step_at"' in line
        return end


def write_story(run_dir: Path) -> None:
    """Make the file of a run that has none from its log."""
    StoryWriter(run_dir, next_id=last_id(run_dir / LOG) + 1).close()


def story_view(run_dir: Path) -> TraceView | None:
    """The view as the log has it now, without its steps; None where there is no story."""
    path = run_dir / FOLDER / NAME
    # First the log's end, then the story, which is written before the log: all up to that end is in it.
    end = last_id(run_dir / LOG)
    if not path.exists():
        return None
    view = TraceView()
    for line, number in _lines(path):
        if number > end:
            break
        event = decode_event(line)
        if event is not None:
            view.apply(event)
        else:
            _take_note(view, json.loads(line))
    view.last_id = end
    return view


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    """Whole lines with their ids, up to one that a crash left torn."""
    with path.open("rb") as file:
        for line in file:
            found = _ID.search(line)
            if found is None or not line.endswith(b"\n"):
                return
            yield line, int(found[1])


def _note(number: int, **what: Any) -> bytes:
    # Numbers that are not finite are none of a rule's facts: a spike has a finite loss.
    return json.dumps({"id": number, **what}, separators=(",", ":")).encode() + b"\n"


def _take_note(view: TraceView, note: dict[str, Any]) -> None:
    if "first_step_at" in note:
        view.first_step_at = note["first_step_at"]
    elif "epoch" in note:
        spike = note["steps"]["spike"]
        known = None if spike is None else Spike(**{**spike, "lines": tuple(spike["lines"])})
        view.step_facts[note["epoch"]] = StepFacts(bad_step=note["steps"]["bad_step"], spike=known)


def _watch_at(log: Path, step: int) -> StepWatch:
    """A watch that has seen the steps up to this one of its epoch, of each the latest attempt's, as a resumed run goes on from."""
    first, last = None, None
    for payload in _steps(log, step):
        first = payload if payload.step == 1 else first
        last = payload if last is None or payload.step >= last.step else last
    watch = StepWatch(None if first is None else first.loss)
    if last is not None:
        of_epoch = {payload.step: payload for payload in _steps(log, step) if payload.epoch == last.epoch}
        for number in sorted(of_epoch):
            watch.take(of_epoch[number])
    return watch


def _steps(log: Path, most: int) -> Iterator[StepDone]:
    return (e.payload for e in each_event(log) if isinstance(e.payload, StepDone) and e.payload.step <= most)
