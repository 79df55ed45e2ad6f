"""Carries a run's trace events into the database, as OpenAI's job events, without ever blocking the training loop.

What it does: buffers projected events and writes them twice a second in one transaction that quotes the job's fence;
writes status changes at once, with everything buffered before them. What it does not: decide a status or a wording
(``jobs/lifecycle.py``, ``trace/projections.py``). Called by ``worker/child.py`` and ``worker/pipelines.py``.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from luthier.core.errors import StaleLease, Unavailable
from luthier.core.jobs import CheckpointRecord, FileRecord, Job, JobEvent, ModelRecord, NewEvent
from luthier.storage.jobs import JobStore
from luthier.trace.events import EpochDone, Forecasted, RunStarted, StepDone, TraceEvent
from luthier.trace.projections import JobEventProjection
from luthier.worker.pace import Pace

FLUSH_SECONDS = 0.5


class JobRecorder:
    """The sink between one run's tracer and its job in the database."""

    def __init__(
        self,
        store: JobStore,
        job: Job,
        *,
        announced_step: int = 0,
        announced_whole: bool = True,
        lost: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        stretch: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Args:
        announced_step: the last one that earlier attempts made public.
        announced_whole: whether it was told with its epoch's validation.
        lost: set when a write in the background is refused: the lease is over, and the loop ends at its next boundary.
        stretch: by how much longer the run takes now than its steps tell, because it takes turns with others.
        """
        self._store = store
        self._lost = lost or threading.Event()
        self._job_id, self._fence = job.id, job.fence
        self._clock, self._stretch = clock, stretch
        self._projection = JobEventProjection()
        self._announced_step, self._announced_whole = announced_step, announced_whole
        self._pending: list[NewEvent] = []
        self._changes: dict[str, object] = {}
        self._pace = Pace()
        self._started_at, self._best = job.started_at, job.best_valid_loss
        self._lock = threading.Lock()
        self._write_lock = threading.RLock()
        self._failure: BaseException | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._flush_regularly, name="recorder", daemon=True)
        self._thread.start()

    def __call__(self, event: TraceEvent) -> None:
        """Take one event. Steps that an earlier attempt already announced are dropped: after a resume they repeat exactly."""
        if self._failure is not None:
            raise self._failure
        if self._lost.is_set():
            return  # the log has the event; the next attempt makes it public (``refill``)
        payload = event.payload
        with self._lock:
            events = self._projection.push(event)
            if isinstance(payload, StepDone | EpochDone) and self._is_announced(payload):
                return
            self._pending.extend(events)
            if isinstance(payload, StepDone):
                self._changes |= {"step": payload.step, "total_steps": payload.total_steps, "epoch": payload.epoch}
                self._changes["train_loss"] = _finite(payload.loss)
                self._changes["estimated_finish"] = int(self._clock() + self._pace.step_done(payload) * self._stretch()) + 1
            elif isinstance(payload, EpochDone):
                self._held_out(_finite(payload.valid_loss))
                self._pace.epoch_done(payload)
            elif isinstance(payload, RunStarted) and self._started_at is None:
                self._started_at = self._changes["started_at"] = int(event.time)
            elif isinstance(payload, Forecasted):
                self._changes["estimated_finish"] = int(payload.finish_at) + 1
                self._pace.forecasted(payload)

    def _held_out(self, loss: float | None) -> None:
        if loss is not None:
            self._best = loss if self._best is None else min(self._best, loss)
            self._changes |= {"valid_loss": loss, "best_valid_loss": self._best}

    def _is_announced(self, payload: StepDone | EpochDone) -> bool:
        """Public since an earlier attempt; an epoch's end is not while its validation is untold."""
        untold = isinstance(payload, EpochDone) and payload.valid_loss is not None and not self._announced_whole
        return payload.step < self._announced_step or (payload.step == self._announced_step and not untold)

    def refill(self, log: Sequence[TraceEvent]) -> None:
        """Queue the steps that an earlier attempt logged but was killed before it could make public.

        Its resume state may lie behind them, so no later attempt would tell them.
        """
        projection, logged = JobEventProjection(), dict[int, NewEvent]()
        for event in log:
            logged.update({int(new.data["step"]): new for new in projection.push(event) if new.type == "metrics" and new.data})
        with self._lock:
            untold = {
                step for step, event in logged.items() if step == self._announced_step and not self._announced_whole and is_whole(event)
            }
            missing = [logged[step] for step in sorted(logged) if step > self._announced_step or step in untold]
            self._pending.extend(missing)
            if missing:
                self._announced_step, self._announced_whole = max(logged), is_whole(missing[-1])

    def add(self, *events: NewEvent) -> None:
        """Queue public events that have no trace event of their own."""
        with self._lock:
            self._pending.extend(events)

    def note(self, changes: Mapping[str, object]) -> None:
        """Queue changes of the job that need no event and no haste."""
        with self._lock:
            self._changes.update(changes)

    def write(
        self,
        changes: Mapping[str, object] | None = None,
        *,
        events: Sequence[NewEvent] = (),
        checkpoints: Sequence[CheckpointRecord] = (),
        models: Sequence[ModelRecord] = (),
        files: Sequence[FileRecord] = (),
    ) -> Job:
        """Write everything buffered and these changes in one transaction; returns the job as stored.

        Raises:
            StaleLease: another runner owns the job, or it is final.
            Unavailable: the database is locked; buffered events stay buffered.
        """
        with self._write_lock:
            with self._lock:
                pending, self._pending = self._pending, []
                merged: dict[str, Any] = {**self._changes, **(changes or {})}
                self._changes = {}
            try:
                return self._store.update(
                    self._job_id,
                    fence=self._fence,
                    changes=merged,
                    events=[*pending, *events],
                    checkpoints=checkpoints,
                    models=models,
                    files=files,
                )
            except Unavailable:
                with self._lock:
                    self._pending[:0] = pending
                raise

    def exclusively(self) -> AbstractContextManager[object]:
        """Within the block nothing is written but by the caller: events and the change they belong to become one transaction."""
        return self._write_lock

    def _flush_regularly(self) -> None:
        while not self._closed.wait(self._pause()):
            with self._lock:
                self._pending.extend(self._projection.overdue(self._clock()))
                idle = not self._pending and not self._changes
            if idle:
                continue
            try:
                self.write()
            except Unavailable:
                continue  # a locked database: the next round takes it along
            except StaleLease:
                # Not raised: the loop shall still save its state, in case the job was only paused.
                self._lost.set()
                return
            except Exception as error:  # noqa: BLE001 - a thread's edge: the run's own thread raises it at its next event
                self._failure = error
                return

    def _pause(self) -> float:
        """Until the next flush: sooner where a step that waits for its epoch's validation must go, so that none is told late."""
        with self._lock:
            until = self._projection.held_until
        return FLUSH_SECONDS if until is None else min(FLUSH_SECONDS, max(0.02, until - self._clock()))

    def close(self) -> None:
        """Stop the thread; what is still buffered is dropped (a final ``write`` has carried it)."""
        self._closed.set()
        self._thread.join(timeout=5.0)


def _finite(value: float | None) -> float | None:
    """A number that the database can hold."""
    return value if value is not None and math.isfinite(value) else None


def is_whole(event: NewEvent | JobEvent) -> bool:
    """Whether a step's public event tells its epoch's validation."""
    return bool(event.data) and "full_valid_loss" in event.data
