"""Memory decides who joins: a base counts once; who does not fit waits in the queue, says why, and is not kept when alone."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from luthier.core.errors import Unavailable
from luthier.core.jobs import Job, JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.jobs.queue import JobQueue
from luthier.models.adapter_form import AdapterForm
from luthier.models.load import load_model
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database, migrate
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.trace.tracer import Tracer
from luthier.worker.admission import Admission, Need, measure_lines, need_of, together
from luthier.worker.context import RunContext
from luthier.worker.recorder import JobRecorder
from tests.support.examples import chat_file
from tests.support.mini import MINI
from tests.support.office import new_job, new_model, note


class Office:
    """Two queued jobs on the embedded base."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        migrate(self.settings.state_database)
        self.database = Database(self.settings.state_database)
        self.jobs, self.queue = JobStore(self.database), JobQueue(self.database)
        self.models, self.blobs = ModelStore(self.database), BlobStore(self.settings.blobs_dir)
        self.models.put(new_model("luthier-mini", kind=ModelKind.BASE, base="luthier-mini", path="builtin:luthier-mini"))
        self.sha256, _ = self.blobs.put(chat_file(12))
        self.stop = threading.Event()

    def lease(self, **options: object) -> Job:
        job = self.queue.submit(new_job(status=JobStatus.QUEUED, training_sha256=self.sha256, options=options))
        leased = self.queue.take(job.id, "me", seconds=1e9)
        assert leased is not None
        return leased

    def context(self, job: Job, available: int = 0) -> RunContext:
        return RunContext(
            settings=replace(self.settings, train_memory_bytes=available),
            job=job,
            attempt=1,
            run_dir=self.settings.run_dir(job.id),
            tracer=Tracer(job.id, ()),
            recorder=JobRecorder(self.jobs, job),
            engine=None,  # type: ignore[arg-type]
            jobs=self.jobs,
            models=self.models,
            blobs=self.blobs,
            should_stop=self.stop.is_set,
            now=lambda: 1_800_000_000.0,
        )

    def run(self, job: Job) -> None:
        self.jobs.update(job.id, fence=job.fence, changes={"status": JobStatus.RUNNING}, events=[note("running")])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path / "data")
    yield office
    office.database.close()


def never(_seconds: float) -> None:
    raise AssertionError("it should not wait")


def test_jobs_on_one_base_count_it_once_and_only_the_largest_activations() -> None:
    def need(base: str, own: int, activations: int) -> Need:
        return Need(base=Path(base), base_bytes=1000, own_bytes=own, activation_bytes=activations)

    assert together([]) == 0
    assert together([need("a", 10, 200), need("a", 20, 100)]) == 1000 + 30 + 200
    assert together([need("a", 10, 200), need("b", 20, 300)]) == 2000 + 30 + 300
    packed = replace(need("a", 10, 200), base_bytes=150, quantization="nf4")
    assert together([need("a", 20, 100), packed, packed]) == 1150 + 40 + 200


def test_lines_are_measured(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345\n1\n\n")
    (tmp_path / "b").write_bytes(b"1234567890")
    assert measure_lines([tmp_path / "a", tmp_path / "b"]) == (3, 10, 19)
    assert measure_lines([]) == (0, 0, 0)


@pytest.mark.parametrize("dora", [False, True])
def test_the_bound_of_a_job_holds_its_base_and_adapter(office: Office, dora: bool) -> None:
    need = need_of(office.context(office.lease(**({"adapter": "dora"} if dora else {}))))
    model = load_model(MINI)
    model.add_adapter("x", rank=16, alpha=32.0, seed=0, form=AdapterForm(dora=dora))
    adapter = sum(p.nbytes for p in model.adapter_parameters("x"))
    assert need.base_bytes >= sum(p.nbytes for p in model.all_parameters())
    assert need.own_bytes >= 4 * adapter, "weights, gradients and two moments"
    assert need.activation_bytes > 0
    assert (need.activation_bytes > need_of(office.context(office.lease())).activation_bytes) == dora


def test_the_first_is_never_kept_and_the_second_waits_until_the_first_is_over(office: Office) -> None:
    admission = Admission(0, office.queue)
    first, second = office.lease(), office.lease()
    context = office.context(first, available=1)
    admission.enter(context, never)
    office.run(first)
    waited: list[float] = []

    def first_ends(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            admission.leave(first.id)
            office.queue.release(first.id, first.fence)

    waiting = office.context(second, available=1)
    admission.enter(waiting, first_ends)
    assert len(waited) == 3
    waiting.recorder.write()
    (message,) = [e.message for e in office.jobs.events_since(second.id, 0) if "waits for memory" in e.message]
    assert message.endswith("It begins when a job that trains now is over.")
    stored = office.jobs.get(second.id)
    assert stored is not None
    assert stored.status is JobStatus.QUEUED
    for one in (context, waiting):
        one.recorder.close()


def test_what_fits_beside_others_does_not_wait(office: Office) -> None:
    admission = Admission(0, office.queue)
    first, second = office.lease(), office.lease()
    contexts = [office.context(job, available=10**12) for job in (first, second)]
    admission.enter(contexts[0], never)
    office.run(first)
    admission.enter(contexts[1], never)
    for context in contexts:
        context.recorder.close()


def test_a_waiting_job_that_is_cancelled_stops_waiting(office: Office) -> None:
    admission = Admission(0, office.queue)
    first, second = office.lease(), office.lease()
    contexts = [office.context(job, available=1) for job in (first, second)]
    admission.enter(contexts[0], never)
    office.run(first)
    with pytest.raises(Unavailable):
        admission.enter(contexts[1], lambda _seconds: office.stop.set())
    office.stop.clear()
    admission.leave(first.id)
    office.queue.release(first.id, first.fence)
    admission.enter(contexts[1], never)
    for context in contexts:
        context.recorder.close()
