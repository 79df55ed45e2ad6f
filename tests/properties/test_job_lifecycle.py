"""Any order of submit, lease, renew, release, cancel, pause, resume, update, crash, abandonment and passing time keeps I2, I3 and I7.

I2: only allowed moves, finished jobs never change, each move has its event in the same transaction. I3: at most one
lease's number is good for a job, and every write with another is refused, but for the checkpoint of the pause that ended it.
I7: events without gaps, never rewritten.
A model in plain Python runs beside the database; after each step the two must agree.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule

from luthier.core.errors import InvalidRequest, StaleLease
from luthier.core.jobs import ALLOWED_MOVES, JobStatus
from luthier.jobs.control import JobControl
from luthier.jobs.lifecycle import pause_checkpoint
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from tests.support.office import Clock, new_checkpoint, new_database, new_job, new_model, note

S = JobStatus
LEASABLE = (S.VALIDATING_FILES, S.QUEUED, S.RUNNING)
# The machine tests decisions, not the disk: thousands of steps are quicker without waiting for fsync.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass
class Expected:
    """What the model knows of one job."""

    status: JobStatus = S.VALIDATING_FILES
    holder: int | None = None
    """The good fence number, if a lease was given and has not ended."""
    expires_at: float = 0.0
    largest_fence: int = 0
    attempts: int = 0
    messages: list[str] = field(default_factory=list)
    paused_from: JobStatus | None = None
    paused_lease: int | None = None
    """The number that was good when a caller paused: its runner may still write the pause's checkpoint."""
    finished: object = None
    """The whole job as it was when it finished."""

    def finish(self, status: JobStatus, job: object) -> None:
        self.status, self.holder, self.finished = status, None, job


@dataclass(frozen=True)
class Held:
    """A lease that some process believes it has; it may be over."""

    job_id: str
    fence: int


class JobLife(RuleBasedStateMachine):
    """The queue beside its model."""

    template: bytes = b""
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=IN_MEMORY))
        (self.folder / "state.db").write_bytes(self.migrated())
        self.database = Database(self.folder / "state.db")
        self.clock = Clock()
        self.queue = JobQueue(self.database, self.clock)
        self.control = JobControl(self.database, self.clock)
        self.store = JobStore(self.database, self.clock)
        self.model: dict[str, Expected] = {}
        self.notes = 0

    @classmethod
    def migrated(cls) -> bytes:
        if not cls.template:
            with tempfile.TemporaryDirectory() as folder:
                new_database(Path(folder)).close()
                cls.template = (Path(folder) / "state.db").read_bytes()
        return cls.template

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    def good(self, lease: Held) -> bool:
        return self.model[lease.job_id].holder == lease.fence

    # Few jobs, much done to each: what goes wrong goes wrong on one job or between two.
    @precondition(lambda self: len(self.model) < 3)
    @rule(target=jobs)
    def submit(self) -> str:
        job = self.queue.submit(new_job())
        texts = [f"Created fine-tuning job: {job.id}", "Validating training file: file-training"]
        self.model[job.id] = Expected(messages=texts)
        return job.id

    @rule(target=leases, statuses=st.permutations(LEASABLE), owner=st.sampled_from(["one", "two"]))
    def lease(self, statuses: list[JobStatus], owner: str):
        free = [(job_id, e) for job_id, e in self.model.items() if e.holder is None or e.expires_at <= self.clock.now]
        wanted = sorted((e for e in free if e[1].status in statuses), key=lambda e: statuses.index(e[1].status))
        job = self.queue.lease(owner, statuses)
        if not wanted:
            assert job is None
            return multiple()
        job_id, expected = wanted[0]
        assert job is not None
        assert (job.id, job.lease_owner) == (job_id, owner)
        assert job.fence > expected.largest_fence
        expected.holder = expected.largest_fence = job.fence
        expected.expires_at = self.clock.now + 15
        return Held(job_id, job.fence)

    @rule(lease=leases)
    def renew(self, lease: Held) -> None:
        if self.good(lease):
            self.queue.renew(lease.job_id, lease.fence)
            self.model[lease.job_id].expires_at = self.clock.now + 15
        else:
            self.refused(lambda: self.queue.renew(lease.job_id, lease.fence))

    @rule(lease=leases)
    def release(self, lease: Held) -> None:
        self.queue.release(lease.job_id, lease.fence)
        if self.good(lease):
            self.model[lease.job_id].holder = None

    @rule()
    def restart_of_the_worker(self) -> None:
        held = [expected for expected in self.model.values() if expected.holder is not None]
        assert self.queue.abandon_leases() == len(held)
        for expected in held:
            expected.holder = None

    @rule(lease=leases, count=st.integers(1, 3))
    def write_events(self, lease: Held, count: int) -> None:
        self.notes += 1
        texts = [f"note {self.notes}.{n}" for n in range(count)]
        events = [note(text) for text in texts]
        if self.good(lease):
            self.store.update(lease.job_id, fence=lease.fence, changes={"progress_step": self.notes}, events=events)
            self.model[lease.job_id].messages += texts
        else:
            self.refused(lambda: self.store.update(lease.job_id, fence=lease.fence, events=events))

    @rule(lease=leases, wish=st.sampled_from(list(S)))
    def write_status(self, lease: Held, wish: JobStatus) -> None:
        expected = self.model[lease.job_id]
        text = f"now {wish}"

        def write():
            return self.store.update(lease.job_id, fence=lease.fence, changes={"status": wish}, events=[note(text)])

        if not self.good(lease):
            self.refused(write)
        elif wish is expected.status or wish in ALLOWED_MOVES[expected.status]:
            job = write()
            expected.messages.append(text)
            expected.status = wish
            if wish.is_final:
                expected.finish(wish, job)
        else:
            self.refused(write, ValueError)

    @rule(lease=consumes(leases), progressed=st.booleans())
    def crash(self, lease: Held, progressed: bool) -> None:
        def record():
            return self.queue.record_crash(lease.job_id, lease.fence, progressed=progressed)

        if not self.good(lease):
            self.refused(record)
            return
        expected = self.model[lease.job_id]
        expected.attempts = 0 if progressed else expected.attempts + 1
        job = record()
        expected.holder = None
        if expected.attempts >= 3 and expected.status is not S.PAUSED:
            expected.messages.append("The job failed due to an internal error.")
            expected.finish(S.FAILED, job)

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        expected = self.model[job_id]
        if expected.status.is_final:
            self.refused(lambda: self.control.cancel(job_id), InvalidRequest)
            return
        job = self.control.cancel(job_id)
        expected.messages.append("Fine tuning process stopping due to job cancellation")
        expected.finish(S.CANCELLED, job)

    @rule(job_id=jobs)
    def pause(self, job_id: str) -> None:
        expected = self.model[job_id]
        if expected.status.is_final or expected.status is S.PAUSED:
            self.refused(lambda: self.control.pause(job_id), InvalidRequest)
            return
        self.control.pause(job_id)
        expected.messages.append("The job has been paused")
        expected.paused_from, expected.paused_lease = expected.status, expected.holder
        expected.status, expected.holder = S.PAUSED, None

    @rule(job_id=jobs)
    def resume(self, job_id: str) -> None:
        expected = self.model[job_id]
        if expected.status is not S.PAUSED:
            self.refused(lambda: self.control.resume(job_id), InvalidRequest)
            return
        self.control.resume(job_id)
        expected.messages.append("The job has been resumed")
        expected.status = S.VALIDATING_FILES if expected.paused_from is S.VALIDATING_FILES else S.QUEUED
        expected.paused_from = expected.paused_lease = expected.holder = None

    @rule(lease=leases)
    def leave_what_was_learned(self, lease: Held) -> None:
        expected = self.model[lease.job_id]
        self.notes += 1
        text, name = f"checkpoint {self.notes}", f"ft:luthier-mini:luthier::{self.notes:08d}"
        checkpoint = new_checkpoint(lease.job_id, self.notes, model_name=name)

        def write():
            return self.store.decide(
                lease.job_id,
                lambda job: pause_checkpoint(job, lease.fence, event=note(text), checkpoint=checkpoint, model=new_model(name)),
            )

        if expected.status is S.PAUSED and expected.paused_lease == lease.fence:
            write()
            expected.messages.append(text)
        else:
            self.refused(write)

    @rule(seconds=st.sampled_from([-3600.0, 1.0, 14.0, 16.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    def refused(self, call, error: type[Exception] = StaleLease) -> None:
        try:
            call()
        except error:
            return
        raise AssertionError(f"expected {error.__name__}")

    @invariant()
    def database_agrees(self) -> None:
        for job_id, expected in self.model.items():
            # The likeliest ghost: whoever wrote last, or whoever wrote before the one that may write now.
            ghost = expected.largest_fence if expected.holder is None else expected.holder - 1
            if ghost > 0 or expected.status.is_final:
                self.refused(lambda job_id=job_id, ghost=ghost: self.store.update(job_id, fence=ghost, events=[note("ghost")]))
            job = self.store.get(job_id)
            assert job is not None
            assert job.status is expected.status
            assert job.attempts == expected.attempts
            assert job.fence >= expected.largest_fence
            if expected.holder is None:
                assert (job.lease_owner, job.lease_expires_at) == (None, None)
            else:
                assert (job.fence, job.lease_expires_at) == (expected.holder, expected.expires_at)
            assert (job.finished_at is not None) == job.status.is_final
            assert job.finished_at is None or job.finished_at >= job.created_at
            if expected.finished is not None:
                assert job == expected.finished
            events = self.store.events_since(job_id, 0)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert [event.message for event in events] == expected.messages


TestJobLife = JobLife.TestCase
TestJobLife.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    # A failure is told at once with its forty steps; shrinking them takes minutes, so add Phase.shrink by hand.
    phases=(Phase.explicit, Phase.generate),
)
