"""The recorder: buffered events reach the database in order, with their change, once, and never after the lease is lost."""

import threading

import pytest

from luthier.core.errors import StaleLease
from luthier.core.jobs import Job, JobStatus, NewEvent
from luthier.core.stage import Stage
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.trace.events import EpochDone, Forecasted, RunStarted, StepDone, TraceEvent
from luthier.trace.projections import HELD_SECONDS, step_event
from luthier.trace.tracer import Tracer
from luthier.worker import recorder as recorder_module
from luthier.worker.attempt import last_announced
from luthier.worker.recorder import JobRecorder
from tests.support.office import new_job
from tests.support.trace_logs import FORECAST


def running_job(database: Database) -> Job:
    queue = JobQueue(database)
    queue.submit(new_job(status=JobStatus.QUEUED))
    job = queue.lease("me", [JobStatus.QUEUED])
    assert job is not None
    return job


def step(number: int, total: int = 4) -> StepDone:
    return StepDone(
        step=number,
        total_steps=total,
        epoch=1,
        loss=1.0 / number,
        token_accuracy=0.5,
        num_tokens=3,
        learning_rate=1e-3,
        grad_norm=1.0,
        seconds=0.5,
    )


def epoch(number: int) -> EpochDone:
    return EpochDone(
        epoch=1,
        n_epochs=1,
        step=number,
        train_loss=0.5,
        train_accuracy=0.5,
        valid_loss=0.7,
        valid_accuracy=0.4,
        sample_loss=0.1,
        seconds=1.0,
    )


def messages(database: Database, job: Job) -> list[str]:
    return [e.message for e in JobStore(database).events_since(job.id, 0)]


def test_a_status_change_carries_all_events_before_it(database: Database) -> None:
    job = running_job(database)
    recorder = JobRecorder(JobStore(database), job)
    tracer = Tracer(job.id, [recorder])
    with recorder.exclusively():
        tracer.emit(Stage.TRAINING, RunStarted(model=job.model, base=job.base, attempt=1, resumed_from_step=0))
        stored = recorder.write({"status": JobStatus.RUNNING})
    recorder.close()
    assert stored.status is JobStatus.RUNNING
    assert "Fine-tuning job started" in messages(database, job)


def test_the_flush_thread_writes_steps_and_the_estimated_finish(database: Database) -> None:
    job = running_job(database)
    store = JobStore(database)
    recorder = JobRecorder(store, job, clock=lambda: 1000.0)
    tracer = Tracer(job.id, [recorder])
    recorder.write({"status": JobStatus.RUNNING}, events=[NewEvent(created_at=1, level="info", message="go")])
    tracer.emit(Stage.TRAINING, step(1))
    tracer.emit(Stage.TRAINING, step(2))
    for _ in range(200):
        if "Step 2/4: training loss=0.50" in messages(database, job):
            break
        recorder._closed.wait(0.02)
    recorder.close()
    assert messages(database, job)[-2:] == ["Step 1/4: training loss=1.00", "Step 2/4: training loss=0.50"]
    current = store.get(job.id)
    assert current is not None
    assert current.estimated_finish == 1002


def test_steps_that_were_announced_before_a_crash_are_not_announced_again(database: Database) -> None:
    job = running_job(database)
    store = JobStore(database)
    first = JobRecorder(store, job)
    for number in (1, 2):
        Tracer(job.id, [first]).emit(Stage.TRAINING, step(number))
    first.write()
    first.close()
    assert last_announced(store, job) == (2, False)
    second = JobRecorder(store, job, announced_step=2)
    tracer = Tracer(job.id, [second])
    for number in (1, 2, 3, 4):
        tracer.emit(Stage.TRAINING, step(number))
    tracer.emit(Stage.TRAINING, epoch(4))
    second.write()
    second.close()
    steps = [e.data["step"] for e in store.events_since(job.id, 0) if e.type == "metrics" and e.data]
    assert steps == [1, 2, 3, 4]
    assert messages(database, job)[-1] == "Step 4/4: training loss=0.25, full validation loss=0.70"


def test_steps_that_were_logged_but_not_yet_public_at_a_kill_are_told_later(database: Database) -> None:
    job = running_job(database)
    store = JobStore(database)
    log: list[TraceEvent] = []
    first = JobRecorder(store, job)
    tracer = Tracer(job.id, [log.append, first])
    tracer.emit(Stage.TRAINING, step(1))
    first.write()
    first.close()
    for number in (2, 3, 4):
        tracer.emit(Stage.TRAINING, step(number))  # logged; the process dies before the next flush
    second = JobRecorder(store, job, announced_step=1)
    second.refill(log)
    resumed = Tracer(job.id, [second])
    resumed.emit(Stage.TRAINING, step(3))
    resumed.emit(Stage.TRAINING, step(4))
    resumed.emit(Stage.TRAINING, epoch(4))
    second.write()
    second.close()
    steps = [e.data["step"] for e in store.events_since(job.id, 0) if e.type == "metrics" and e.data]
    assert steps == [1, 2, 3, 4]
    assert messages(database, job)[-1].endswith("full validation loss=0.70"), "an epoch's last step waits for its validation"


def test_after_a_cancel_nothing_more_is_written(database: Database) -> None:
    job = running_job(database)
    store = JobStore(database)
    recorder = JobRecorder(store, job)
    JobControl(database).cancel(job.id)
    count = len(messages(database, job))
    with pytest.raises(StaleLease):
        recorder.write({"status": JobStatus.SUCCEEDED}, events=[NewEvent(created_at=1, level="info", message="done")])
    recorder.close()
    assert len(messages(database, job)) == count
    current = store.get(job.id)
    assert current is not None
    assert current.status is JobStatus.CANCELLED


def test_a_pause_ends_the_loop_by_a_flag_so_that_it_can_still_save(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_SECONDS", 0.01)
    job = running_job(database)
    lost, log = threading.Event(), list[TraceEvent]()
    recorder = JobRecorder(JobStore(database), job, lost=lost)
    JobControl(database).pause(job.id)
    count = len(messages(database, job))
    tracer = Tracer(job.id, [log.append, recorder])
    tracer.emit(Stage.TRAINING, step(1))
    assert lost.wait(30)
    tracer.emit(Stage.TRAINING, step(2))
    recorder.close()
    assert len(messages(database, job)) == count, "nothing is written behind a lost lease"
    assert len(log) == 2, "the log has it all, for the next attempt"
    JobControl(database).resume(job.id)
    again = JobQueue(database).lease("me", [JobStatus.QUEUED])
    assert again is not None
    second = JobRecorder(JobStore(database), again)
    second.refill(log)
    second.write()
    second.close()
    assert messages(database, job)[-2:] == ["Step 1/4: training loss=1.00", "Step 2/4: training loss=0.50"]


def test_the_forecast_tells_the_finish_before_there_is_a_step_and_what_follows_the_steps(database: Database) -> None:
    job = running_job(database)
    recorder = JobRecorder(JobStore(database), job, clock=lambda: 1000.0)
    tracer = Tracer(job.id, [recorder])
    tracer.emit(Stage.TRAINING, Forecasted(forecast=FORECAST.to_dict(), finish_at=2000.5))
    assert recorder.write().estimated_finish == 2001
    tracer.emit(Stage.TRAINING, step(1))
    # Three steps of half a second, the seven seconds that are forecast for evaluation, and one for rounding.
    assert recorder.write().estimated_finish == 1000 + 8 + 1
    recorder.close()


def test_an_epochs_last_step_does_not_wait_longer_than_its_time_for_a_long_validation(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "FLUSH_SECONDS", 0.01)
    job = running_job(database)
    now = [1000.0]
    recorder = JobRecorder(JobStore(database), job, clock=lambda: now[0])
    tracer = Tracer(job.id, [recorder], clock=lambda: now[0])
    tracer.emit(Stage.TRAINING, step(4))
    now[0] += HELD_SECONDS
    for _ in range(500):
        if "Step 4/4: training loss=0.25" in messages(database, job):
            break
        recorder._closed.wait(0.02)
    assert messages(database, job)[-1] == "Step 4/4: training loss=0.25"
    tracer.emit(Stage.TRAINING, epoch(4))
    recorder.write()
    recorder.close()
    assert messages(database, job)[-1] == "Step 4/4: training loss=0.25, full validation loss=0.70"


def test_the_validation_of_a_step_that_went_without_it_is_told_by_the_next_attempt_and_once(database: Database) -> None:
    job = running_job(database)
    store, log = JobStore(database), list[TraceEvent]()
    first = JobRecorder(store, job)
    first.add(step_event(1, step(4), None))
    first.write()
    first.close()
    assert last_announced(store, job) == (4, False)
    for _ in range(2):
        number, whole = last_announced(store, job)
        again = JobRecorder(store, job, announced_step=number, announced_whole=whole)
        again.refill(log)
        tracer = Tracer(job.id, [log.append, again])
        tracer.emit(Stage.TRAINING, step(4))
        tracer.emit(Stage.TRAINING, epoch(4))
        again.write()
        again.close()
    assert [m for m in messages(database, job) if m.startswith("Step")] == [
        "Step 4/4: training loss=0.25",
        "Step 4/4: training loss=0.25, full validation loss=0.70",
    ]


def test_a_validation_that_was_logged_and_not_told_is_told_by_the_next_attempt(database: Database) -> None:
    job = running_job(database)
    store, log = JobStore(database), list[TraceEvent]()
    first = JobRecorder(store, job)
    first.add(step_event(1, step(4), None))
    first.write()
    first.close()
    tracer = Tracer(job.id, [log.append])
    tracer.emit(Stage.TRAINING, step(4))
    tracer.emit(Stage.TRAINING, epoch(4))
    second = JobRecorder(store, job, announced_step=4, announced_whole=False)
    second.refill(log)
    second.write()
    second.close()
    assert messages(database, job)[-1] == "Step 4/4: training loss=0.25, full validation loss=0.70"
