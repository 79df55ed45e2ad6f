"""Memory decides who joins: a base counts once; who does not fit waits in the queue, says why, and is not kept when alone. On a GPU it is
the memory of that GPU, as a stand-in tells it here."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.jobs import Job, JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.jobs.queue import JobQueue
from luthier.models.adapter_form import AdapterForm
from luthier.models.device import Placement
from luthier.models.load import load_model
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database, migrate
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.trace.tracer import Tracer
from luthier.training.card_memory import WORKSPACE_BYTES
from luthier.worker import admission as admission_module
from luthier.worker.admission import NOTHING, Admission, Need, measure_lines, need_of, need_on_card, together
from luthier.worker.context import RunContext
from luthier.worker.machine import DeviceMemory
from luthier.worker.recorder import JobRecorder
from luthier.worker.spec_file import write_spec
from tests.support.examples import chat_file
from tests.support.mini import MINI
from tests.support.office import new_job, new_model, note
from tests.support.trainable_model import spec_for
from tests.unit.training.test_plan import rows


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

    def lease(self, *, method: str = "supervised", **options: object) -> Job:
        job = self.queue.submit(new_job(status=JobStatus.QUEUED, training_sha256=self.sha256, options=options, method=method))
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


CARD = DeviceMemory(device="cuda:1", name="NVIDIA X", total_bytes=80_000_000_000, free_bytes=70_000_000_000, held_bytes=0)


@pytest.fixture
def on_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with a GPU, whatever the setting says: ``auto`` finds it too."""
    placement = Placement(device="cuda:1", precision="bfloat16", device_reason="", precision_reason="")
    monkeypatch.setattr(admission_module, "training_placement", lambda *_a, **_k: placement)


def card_of(available: int) -> DeviceMemory:
    """One on which so much is available."""
    return replace(CARD, free_bytes=int((available + 600_000_000) / 0.95) + 1)


def test_steps_that_may_be_done_at_once_count_together_up_to_one_forwards_room() -> None:
    def need(own: int, activations: int) -> Need:
        return Need(base=Path("a"), base_bytes=1000, own_bytes=own, activation_bytes=activations, joint_bytes=450)

    assert together([need(10, 200)]) == 1000 + 10 + 200
    assert together([need(10, 200), need(20, 100)]) == 1000 + 30 + 300
    assert together([need(10, 200), need(20, 300)]) == 1000 + 30 + 450
    assert together([need(10, 700), need(20, 300)]) == 1000 + 30 + 700, "one row may be longer than the room"


@pytest.mark.parametrize("dora", [False, True])
def test_the_bound_on_a_gpu_holds_base_and_adapter_in_their_numbers(office: Office, dora: bool) -> None:
    need = need_on_card(office.context(office.lease(**({"adapter": "dora"} if dora else {}))), CARD, "bfloat16")
    model = load_model(MINI, dtype=torch.bfloat16)
    model.add_adapter("x", rank=16, alpha=32.0, seed=0, form=AdapterForm(dora=dora))
    base, adapter = sum(p.nbytes for p in model.all_parameters()), sum(p.nbytes for p in model.adapter_parameters("x"))
    assert need.base_bytes == base
    assert 4 * adapter < need.own_bytes < 4 * adapter + WORKSPACE_BYTES + base
    assert 0 < need.activation_bytes <= need.joint_bytes
    wide = need_on_card(office.context(office.lease(**({"adapter": "dora"} if dora else {}))), CARD, "float32")
    assert wide.base_bytes == 2 * base
    assert wide.activation_bytes > need.activation_bytes
    again = need_on_card(office.context(office.lease(gradient_checkpointing=True)), CARD, "bfloat16")
    assert again.activation_bytes < need.activation_bytes


def test_all_weights_on_a_gpu_take_16_bytes_each_and_are_shared_with_nobody(office: Office) -> None:
    context = office.context(office.lease(adapter="full"))
    need = need_on_card(context, CARD, "float32")
    numbers = sum(p.numel() for p in load_model(MINI).all_parameters())
    assert need.base_bytes + need.own_bytes == 16 * numbers + WORKSPACE_BYTES
    assert need.base == context.run_dir
    assert need.joint_bytes == 0


def test_pairs_on_a_gpu_take_two_rows_each(office: Office) -> None:
    one, pairs = (need_on_card(office.context(office.lease(method=m)), CARD, "bfloat16") for m in ("supervised", "dpo"))
    assert pairs.activation_bytes > 1.3 * one.activation_bytes


@pytest.mark.usefixtures("on_card")
def test_on_a_gpu_the_second_waits_for_its_memory_and_says_where(office: Office) -> None:
    first, second = office.lease(), office.lease()
    contexts = [office.context(job, available=1) for job in (first, second)]  # the machine's own memory says nothing there
    both = together([need_on_card(context, CARD, "bfloat16") for context in contexts])
    asked: list[str] = []
    there = [both - 1]

    def look(device: str) -> DeviceMemory:
        asked.append(device)
        return card_of(there[0])

    admission = Admission(10**15, office.queue, look)
    admission.enter(contexts[0], never)
    office.run(first)
    waited: list[float] = []

    def memory_comes(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            there[0] = both + 1

    admission.enter(contexts[1], memory_comes)
    assert len(waited) == 3
    assert set(asked) == {"cuda:1"}
    contexts[1].recorder.write()
    (message,) = [e.message for e in office.jobs.events_since(second.id, 0) if "waits for memory" in e.message]
    assert message == (
        f"The job waits for memory on cuda:1 (NVIDIA X): with it {both / 1e9:.1f} GB may be needed, and {(both - 1) / 1e9:.1f} GB are "
        "available for training there. It begins when a job that trains now is over."
    )
    for context in contexts:
        context.recorder.close()


@pytest.mark.usefixtures("on_card")
def test_on_a_full_gpu_nobody_is_kept_when_nobody_else_trains(office: Office) -> None:
    context = office.context(office.lease())
    Admission(0, office.queue, lambda _device: replace(CARD, free_bytes=0)).enter(context, never)
    context.recorder.close()


def test_a_device_that_is_not_here_keeps_nobody_waiting(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_a: object, **_k: object) -> Placement:
        raise InvalidRequest("There is no such device.")

    monkeypatch.setattr(admission_module, "training_placement", refuse)
    first, second = office.lease(), office.lease()
    admission = Admission(0, office.queue, lambda _device: pytest.fail("no device is asked"))
    contexts = [office.context(job, available=1) for job in (first, second)]
    admission.enter(contexts[0], never)
    office.run(first)
    admission.enter(contexts[1], never)
    assert admission._inside == {first.id: NOTHING, second.id: NOTHING}
    for context in contexts:
        context.recorder.close()


@pytest.mark.usefixtures("on_card")
def test_a_resumed_run_is_placed_where_it_began(office: Office) -> None:
    context = office.context(office.lease(), available=10**12)
    context.run_dir.mkdir(parents=True)
    write_spec(context.run_dir, spec_for(rows([(5, 2)] * 4)), ())
    Admission(0, office.queue, lambda _device: pytest.fail("it began on the CPU")).enter(context, never)
    context.recorder.close()
