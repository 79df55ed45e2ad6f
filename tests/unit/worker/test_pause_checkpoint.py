"""A pause leaves a callable checkpoint: a real small model is trained, stopped, and what it has learned is there by name."""

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from luthier.core.engine_messages import EngineReply, EngineRequest, Finished, Generate
from luthier.core.errors import StaleLease, Unavailable
from luthier.core.generation import TokenLogprob
from luthier.core.jobs import JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.models.checkpoint import verify_folder
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database, migrate
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.trace.events import EpochDone, RunStarted, StageStarted, StepDone, TraceEvent
from luthier.trace.reader import read_events
from luthier.trace.tracer import Tracer
from luthier.trace.writer import TraceWriter
from luthier.training import resume
from luthier.worker import attempt
from luthier.worker import checkpoints as checkpoints_module
from luthier.worker.context import RunContext
from luthier.worker.pipelines import fine_tune
from luthier.worker.recorder import JobRecorder
from tests.support.examples import chat_file
from tests.support.office import new_job, new_model

BASE = "luthier-mini"
STEPS_PER_EPOCH, TOTAL = 3, 6
Watch = Callable[[TraceEvent], None]


class NoEngine:
    """Stands where the engine host would; ``called`` is run when evaluation or deployment asks it for something first."""

    def __init__(self, called: Callable[[], None]) -> None:
        self._called: Callable[[], None] | None = called
        self._lock = threading.Lock()

    def request(self, message: EngineRequest, *, timeout_seconds: float = 600.0) -> EngineReply:
        raise self._refusal()

    def generate(self, message: Generate) -> tuple[str, list[TokenLogprob], Finished]:
        raise self._refusal()

    def _refusal(self) -> Unavailable:
        with self._lock:
            if self._called is not None:
                called, self._called = self._called, None
                called()
        return Unavailable("The run must stop.")


class Shop:
    """A data directory with one queued job, and attempts at it."""

    def __init__(
        self, folder: Path, *, epochs: int = TOTAL // STEPS_PER_EPOCH, options: dict[str, Any] | None = None, multiplier: Any = 1.0
    ) -> None:
        self.settings = Settings(data_dir=folder)
        migrate(self.settings.state_database)
        self.database = Database(self.settings.state_database)
        self.jobs, self.models = JobStore(self.database), ModelStore(self.database)
        self.queue, self.control = JobQueue(self.database), JobControl(self.database)
        self.blobs = BlobStore(self.settings.blobs_dir)
        self.stop = threading.Event()
        self.models.put(new_model(BASE, kind=ModelKind.BASE, base=BASE, path=f"builtin:{BASE}"))
        sha256, _ = self.blobs.put(chat_file(12))
        valid_sha256, _ = self.blobs.put(chat_file(4, "valid.jsonl"))
        numbers = {"n_epochs": epochs, "batch_size": 4, "learning_rate_multiplier": multiplier}
        files = {"training_sha256": sha256, "validation_file": "file-validation", "validation_sha256": valid_sha256}
        job = new_job(status=JobStatus.QUEUED, hyperparameters=numbers, suffix="demo", options=options or {}, **files)
        self.job_id = self.queue.submit(job).id
        self.log = self.settings.run_dir(self.job_id) / "trace.jsonl"
        self.log.parent.mkdir(parents=True)

    def attempt(
        self, watch: Watch, *, engine_called: Callable[[], None] = lambda: None, carry_out: Callable[[RunContext], None] = fine_tune
    ) -> None:
        """What the worker's child does, with ``watch`` looking at each trace event before the run goes on."""
        job = self.queue.lease("me", [JobStatus.RUNNING, JobStatus.QUEUED])
        assert job is not None
        self.stop.clear()
        writer, recorder = TraceWriter(self.log), JobRecorder(self.jobs, job)
        context = RunContext(
            settings=self.settings,
            job=job,
            attempt=1,
            run_dir=self.log.parent,
            tracer=Tracer(job.id, (writer, recorder, watch), next_id=writer.next_id),
            recorder=recorder,
            engine=NoEngine(engine_called),
            jobs=self.jobs,
            models=self.models,
            blobs=self.blobs,
            should_stop=self.stop.is_set,
            now=lambda: 1_800_000_000.0,
        )
        try:
            carry_out(context)
        finally:
            recorder.close()
            writer.close()
            self.queue.release(job.id, job.fence)

    def pause(self) -> None:
        """As a caller's request and the heartbeat do it together."""
        self.control.pause(self.job_id)
        self.stop.set()

    def after_step(self, number: int, act: Callable[[], Any]) -> Watch:
        def watch(event: TraceEvent) -> None:
            if isinstance(event.payload, StepDone) and event.payload.step == number:
                act()

        return watch

    def steps(self) -> list[int]:
        return [c.step_number for c in self.jobs.checkpoints(self.job_id).items]

    def messages(self) -> list[str]:
        return [e.message for e in self.jobs.events_since(self.job_id, 0)]

    def folders(self) -> list[str]:
        folder = self.settings.models_dir
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    shop = Shop(tmp_path / "data")
    yield shop
    shop.database.close()


def check_callable(shop: Shop, step: int) -> str:
    """The newest checkpoint is of this step, and a served model with weights that have learned."""
    point = shop.jobs.checkpoints(shop.job_id).items[0]
    assert point.step_number == step
    assert point.model_name.endswith(f":ckpt-step-{step}")
    record = shop.models.get(point.model_name)
    assert record is not None
    assert (record.kind, record.base, record.job_id, record.step) == (ModelKind.ADAPTER, BASE, shop.job_id, step)
    folder = shop.settings.data_dir / record.path
    verify_folder(folder)
    weights = load_file(str(folder / "adapter_model.safetensors"))
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name), "nothing was learned"
    return point.model_name


def test_a_pause_within_an_epoch_makes_a_checkpoint_and_the_run_goes_on_behind_it(shop: Shop) -> None:
    shop.attempt(shop.after_step(2, shop.pause))
    name = check_callable(shop, 2)
    (point,) = shop.jobs.checkpoints(shop.job_id).items
    assert point.metrics["step"] == 2
    assert point.metrics["train_loss"] > 0
    assert shop.messages()[-2:] == ["The job has been paused", f"Checkpoint created at step 2 with Snapshot ID: {name}"]
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert (job.status, job.lease_owner) == (JobStatus.PAUSED, None)

    assert shop.control.resume(shop.job_id).status is JobStatus.QUEUED
    shop.attempt(shop.after_step(4, shop.pause))
    assert shop.steps() == [4, 3, 2]
    check_callable(shop, 4)
    started = [e.payload for e in read_events(shop.log)[0] if isinstance(e.payload, RunStarted)]
    assert [s.resumed_from_step for s in started] == [0, 2]
    assert shop.models.get(name) is not None, "the first pause's checkpoint still answers"


def test_metrics_of_an_earlier_epoch_are_not_shown_as_this_ones(shop: Shop) -> None:
    shop.attempt(shop.after_step(5, shop.pause))
    paused, epoch = shop.jobs.checkpoints(shop.job_id).items
    assert (paused.step_number, epoch.step_number) == (5, STEPS_PER_EPOCH)
    assert epoch.metrics["full_valid_loss"] > 0
    assert not any(name.startswith("full_") for name in paused.metrics)


def test_a_pause_before_the_first_step_makes_none(shop: Shop) -> None:
    def watch(event: TraceEvent) -> None:
        if type(event.payload).__name__ == "BaseMeasured":
            shop.pause()

    shop.attempt(watch)
    assert (shop.steps(), shop.folders()) == ([], [])


def test_a_pause_at_an_epochs_end_makes_that_epochs_checkpoint_once(shop: Shop) -> None:
    def watch(event: TraceEvent) -> None:
        if isinstance(event.payload, EpochDone):
            shop.control.pause(shop.job_id)  # no heartbeat has noticed yet: the checkpoint's own write is refused

    shop.attempt(watch)
    assert shop.steps() == [STEPS_PER_EPOCH]
    check_callable(shop, STEPS_PER_EPOCH)
    trained = [e.payload.step for e in read_events(shop.log)[0] if isinstance(e.payload, StepDone)]
    assert trained == [1, 2, 3], "the loop stops though nobody else told it to"


def test_a_pause_after_the_last_step_makes_a_checkpoint_of_all_that_was_learned(shop: Shop) -> None:
    def ignore(_: TraceEvent) -> None:
        pass

    with pytest.raises(Unavailable):
        shop.attempt(ignore, engine_called=shop.pause)
    assert shop.steps() == [TOTAL, STEPS_PER_EPOCH]
    check_callable(shop, TOTAL)


def test_an_estimate_of_an_earlier_attempt_is_not_the_next_ones(shop: Shop) -> None:
    earlier = shop.queue.lease("me", [JobStatus.QUEUED])
    assert earlier is not None
    shop.jobs.update(earlier.id, fence=earlier.fence, changes={"estimated_finish": 4_000_000_000})
    shop.queue.release(earlier.id, earlier.fence)
    seen: list[int | None] = []

    def watch(event: TraceEvent) -> None:
        if isinstance(event.payload, StageStarted | StepDone):
            job = shop.jobs.get(shop.job_id)
            seen.append(job.estimated_finish if job else 0)
        if isinstance(event.payload, StepDone):
            shop.stop.set()

    shop.attempt(watch)
    assert set(seen[:-1]) == {None}


@pytest.mark.parametrize("wish", ["cancel", "stop", "resume"])
def test_other_stops_publish_nothing(shop: Shop, wish: str) -> None:
    def act() -> None:
        if wish == "cancel":
            shop.control.cancel(shop.job_id)
        if wish == "resume":
            shop.control.pause(shop.job_id)
            shop.control.resume(shop.job_id)
        shop.stop.set()

    shop.attempt(shop.after_step(2, act))
    assert (shop.steps(), shop.folders()) == ([], [])


def test_a_job_that_is_resumed_while_its_checkpoint_is_written_has_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = checkpoints_module.publish

    def slowly(*arguments: Any, **options: Any) -> Any:
        published = publish(*arguments, **options)
        shop.control.resume(shop.job_id)
        return published

    monkeypatch.setattr(checkpoints_module, "publish", slowly)
    with pytest.raises(StaleLease):
        shop.attempt(shop.after_step(2, shop.pause))
    assert (shop.steps(), shop.folders()) == ([], [])
    assert shop.messages()[-1] == "The job has been resumed"


@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only")])
def test_a_disk_in_trouble_pauses_the_job_with_the_reason_and_a_resume_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, number: int, word: str
) -> None:
    calls: list[object] = []

    def failing(tensors: Any, path: str) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(number, "no")
        save_file(tensors, path)

    def ignore(_: TraceEvent) -> None:
        pass

    monkeypatch.setattr(resume, "save_file", failing)
    shop.attempt(ignore, carry_out=lambda context: attempt._carry_out(context, "train", lambda _context: None))
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert (job.status, job.lease_owner, job.finished_at) == (JobStatus.PAUSED, None, None)
    message = f"The job has been paused because the server's disk is {word}. Mend that and resume it; it goes on from its newest state."
    assert shop.messages()[-1] == message
    reached = resume.newest_step(shop.log.parent / "resume")
    assert 0 < reached < TOTAL

    monkeypatch.undo()
    shop.control.resume(shop.job_id)
    with pytest.raises(Unavailable):
        shop.attempt(ignore, engine_called=shop.stop.set)
    started = [e.payload for e in read_events(shop.log)[0] if isinstance(e.payload, RunStarted)]
    assert [s.resumed_from_step for s in started] == [0, reached]
    assert resume.newest_step(shop.log.parent / "resume") == TOTAL


def test_other_errors_of_the_system_are_crashes(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(resume, "save_file", broken)
    with pytest.raises(OSError, match="Input/output"):
        shop.attempt(lambda _: None, carry_out=lambda context: attempt._carry_out(context, "train", lambda _context: None))
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.status is JobStatus.RUNNING
