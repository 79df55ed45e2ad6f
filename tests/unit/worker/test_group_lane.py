"""The training lane: who joins whom, who trains alone, who may pass, and what a process's end means to its jobs. Processes are faked."""

import os
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from luthier.core.jobs import Job, JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database, migrate
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.storage.workers import WorkerStore
from luthier.worker import group_lane as module
from luthier.worker.group_lane import GroupLane
from luthier.worker.orders import EXIT_OK, ChildOrder, MemberOver
from tests.support.office import Clock, new_job, new_model, note


class FakeProcess:
    """Lives until told otherwise; keeps its end of the pipe."""

    def __init__(self, args: tuple[ChildOrder, Connection]) -> None:
        self.first, self.pipe = args
        # The lane closes the other end in its own process, as it does with a forked one's.
        self.pipe = Connection(os.dup(self.pipe.fileno()))
        self.pid, self.exitcode = 1, None
        self.sentinel = self.pipe.fileno()
        self.terminated = False

    def start(self) -> None:
        pass

    def is_alive(self) -> bool:
        return self.exitcode is None

    def terminate(self) -> None:
        self.terminated = True

    def orders(self) -> list[str]:
        """Jobs handed over, the first included; None where it was sent home."""
        found: list[Any] = [self.first.job.id]
        while self.pipe.poll():
            order = self.pipe.recv()
            found.append(None if order is None else order.job.id)
        return found

    def over(self, job: Job, *, crashed: bool = False, seconds: float = 1.0) -> None:
        self.pipe.send(MemberOver(job_id=job.id, fence=job.fence, crashed=crashed, seconds=seconds))


class FakeFollowers:
    """Whose loggers have been begun and ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []

    def begin(self, job: Job) -> None:
        self.begun.append(job.id)

    def end(self, job_id: str) -> None:
        self.ended.append(job_id)


class FakeContext:
    """Starts fake processes."""

    def __init__(self) -> None:
        self.started: list[FakeProcess] = []

    def Pipe(self) -> Any:
        return Pipe()

    def Process(self, *, target: Any, args: Any, name: str) -> FakeProcess:
        self.started.append(FakeProcess(args))
        return self.started[-1]


class House:
    """An office with a lane whose loop is turned by hand."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings(data_dir=folder, **settings)
        migrate(self.settings.state_database)
        self.database = Database(self.settings.state_database)
        self.queue, self.jobs = JobQueue(self.database), JobStore(self.database)
        self.models, self.control = ModelStore(self.database), JobControl(self.database)
        self.clock, self.context, self.followers = Clock(0), FakeContext(), FakeFollowers()
        self.lane = GroupLane(
            settings=self.settings,
            owner="me",
            context=self.context,  # type: ignore[arg-type]
            queue=self.queue,
            jobs=self.jobs,
            models=self.models,
            workers=WorkerStore(self.database),
            followers=self.followers,  # type: ignore[arg-type]
            clock=self.clock,
        )

    def submit(self, project: str = "default", **changes: Any) -> Job:
        return self.queue.in_project(project).submit(new_job(status=JobStatus.QUEUED, **changes))

    def turn(self) -> None:
        """What the loop does once."""
        self.lane._read_news()
        while self.lane._place_one():
            continue
        self.lane._dismiss_idle()

    def placed(self) -> list[list[str]]:
        return [list(training.members) for training in self.lane._processes]

    def now(self, job: Job) -> Job:
        current = self.jobs.get(job.id)
        assert current is not None
        return current


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("LUTHIER_ENGINE_SOCKET", "none")
    monkeypatch.setenv("LUTHIER_ENGINE_SECRET", "none")
    made: list[House] = []

    def make(**settings: Any) -> House:
        made.append(House(tmp_path / str(len(made)), **settings))
        return made[-1]

    yield make
    for one in made:
        one.database.close()


def test_jobs_on_one_base_share_a_process_up_to_the_limit(house: Any) -> None:
    office = house(group_jobs=2)
    jobs = [office.submit() for _ in range(3)]
    office.turn()
    (process,) = office.context.started
    assert process.orders() == [jobs[0].id, jobs[1].id]
    process.over(office.now(jobs[0]))
    office.turn()
    assert office.placed() == [[jobs[1].id, jobs[2].id]], "the third has the first one's place"


@pytest.mark.parametrize(
    "changes", [{"base": "other"}, {"options": {"adapter": "full"}}, {"method": "dpo"}, {"attempts": 1}, {"options": {"range_test": True}}]
)
def test_who_cannot_share_waits_for_a_process_of_its_own(house: Any, changes: dict[str, Any]) -> None:
    office = house()
    first, odd = office.submit(), office.submit(**changes)
    office.turn()
    assert office.placed() == [[first.id]]
    office.context.started[0].over(office.now(first))
    office.turn()
    assert office.context.started[0].orders()[-1] is None, "an empty process is sent home, and nobody joins it"
    assert office.placed() == [[]]
    office.context.started[0].exitcode = EXIT_OK
    office.turn()
    assert office.placed() == [[odd.id]]


def test_with_several_devices_each_job_has_all_of_them_to_itself(house: Any) -> None:
    office = house(device="cuda:0,cuda:1")
    first, _ = office.submit(), office.submit()
    office.turn()
    assert office.placed() == [[first.id]]


def test_jobs_on_pairs_share_a_process_with_their_like(house: Any) -> None:
    office = house(train_processes=2)
    first, plain, second = office.submit(method="dpo"), office.submit(), office.submit(method="dpo", options={"preference_loss": "orpo"})
    office.turn()
    assert office.placed() == [[first.id, second.id], [plain.id]]


def test_a_second_process_is_started_where_it_is_allowed(house: Any) -> None:
    office = house(train_processes=2)
    first, other, third = office.submit(), office.submit(base="other"), office.submit()
    office.turn()
    assert office.placed() == [[first.id, third.id], [other.id]]


def test_a_large_file_trains_alone(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    office = house()
    sha256, _ = BlobStore(office.settings.blobs_dir).put(b"x" * 100)
    first, large = office.submit(), office.submit(training_sha256=sha256)
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 99)
    office.turn()
    assert office.placed() == [[first.id]]
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 100)
    office.turn()
    assert office.placed() == [[first.id, large.id]]


def test_who_continues_complete_weights_does_not_share_with_their_base(house: Any) -> None:
    office = house(train_processes=2)
    for name, kind in (("ft:full", ModelKind.FULL), ("ft:adapter", ModelKind.ADAPTER)):
        office.models.put(new_model(name, kind=kind))
    plain, full, adapter = office.submit(), office.submit(parent_model="ft:full"), office.submit(parent_model="ft:adapter")
    office.turn()
    assert office.placed() == [[plain.id, adapter.id], [full.id]]


def test_bases_in_4_bits_are_shared_among_themselves(house: Any) -> None:
    office = house(train_processes=2)
    plain, packed = office.submit(), office.submit(options={"quantization": "nf4"})
    others = office.submit(options={"quantization": "nf4"}), office.submit(options={"rank": 4})
    office.turn()
    assert office.placed() == [[plain.id, others[1].id], [packed.id, others[0].id]]


def test_one_without_a_place_is_passed_for_a_while_and_then_by_nobody(house: Any) -> None:
    office = house()
    first, full = office.submit(), office.submit(options={"adapter": "full"})
    office.turn()
    second = office.submit()
    office.turn()
    assert office.placed() == [[first.id, second.id]]
    office.clock.now += module.PASS_SECONDS + 1
    third = office.submit()
    office.turn()
    assert office.placed() == [[first.id, second.id]]
    for job in (first, second):
        office.context.started[0].over(office.now(job))
    office.turn()
    office.context.started[0].exitcode = EXIT_OK
    office.turn()
    assert office.placed() == [[full.id]]
    assert office.now(third).lease_owner is None


def test_a_dead_process_is_a_crash_of_all_its_jobs_and_they_go_on_alone(house: Any) -> None:
    office = house()
    jobs = [office.submit() for _ in range(3)]
    office.turn()
    progressed = office.now(jobs[2])
    office.jobs.update(progressed.id, fence=progressed.fence, changes={"progress_step": 5})
    office.control.cancel(jobs[1].id)
    office.context.started[0].exitcode = -9
    office.lane._read_news()
    assert [(office.now(job).attempts, office.now(job).lease_owner) for job in (jobs[0], jobs[2])] == [(1, None), (0, None)]
    assert office.now(jobs[1]).status is JobStatus.CANCELLED
    office.turn()
    assert office.placed() == [[jobs[0].id]], "no progress: alone until it has some"


def test_an_error_in_one_thread_is_that_jobs_crash(house: Any) -> None:
    office = house()
    good, bad = office.submit(), office.submit()
    office.turn()
    office.context.started[0].over(office.now(bad), crashed=True)
    office.turn()
    assert (office.now(bad).attempts, office.now(bad).lease_owner) == (1, None)
    assert (office.now(good).attempts, office.now(good).lease_owner) == (0, "me")


def test_a_job_resumed_before_its_thread_was_over_waits_for_that(house: Any) -> None:
    office = house()
    job, other = office.submit(), office.submit()
    office.turn()
    office.control.pause(job.id)
    office.control.resume(job.id)
    office.turn()
    assert office.context.started[0].orders() == [job.id, other.id]
    office.context.started[0].over(job)
    office.turn()
    assert office.context.started[0].orders()[-1] == job.id


def test_of_two_projects_alike_the_one_that_had_less_goes_first(house: Any) -> None:
    office = house(group_jobs=1)
    first = office.submit("a")
    office.turn()
    second_a, first_b = office.submit("a"), office.submit("b")
    office.context.started[0].over(office.now(first), seconds=100.0)
    office.queue.release(first.id, office.now(first).fence)
    office.jobs.update(first.id, fence=office.now(first).fence, changes={"status": JobStatus.CANCELLED}, events=[note("cancelled")])
    office.turn()
    office.context.started[0].exitcode = EXIT_OK
    office.turn()
    assert office.placed() == [[first_b.id]]
    assert office.now(second_a).lease_owner is None


def test_the_loop_ends_when_its_processes_have(house: Any) -> None:
    office = house()
    job = office.submit()
    office.lane.thread.start()
    done = threading.Event()
    for _ in range(500):
        if office.now(job).lease_owner is not None and office.context.started:
            break
        done.wait(0.02)
    office.lane.stop()
    for _ in range(500):
        if office.context.started[0].terminated:
            break
        done.wait(0.02)
    assert office.context.started[0].terminated
    office.context.started[0].over(office.now(job))
    office.context.started[0].exitcode = EXIT_OK
    office.lane.thread.join(20)
    assert not office.lane.thread.is_alive()
    assert office.now(job).attempts == 0
