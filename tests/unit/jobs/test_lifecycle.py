"""The table of moves, and the decisions over it."""

from collections.abc import Callable

import pytest

from luthier.core.errors import InvalidRequest, StaleLease
from luthier.core.jobs import ALLOWED_MOVES, Job, JobStatus
from luthier.jobs import lifecycle
from tests.support.office import START, new_checkpoint, new_job, new_model, note

S = JobStatus

TABLE = {
    S.VALIDATING_FILES: {S.QUEUED, S.FAILED, S.CANCELLED, S.PAUSED},
    S.QUEUED: {S.RUNNING, S.FAILED, S.CANCELLED, S.PAUSED},
    S.RUNNING: {S.SUCCEEDED, S.FAILED, S.CANCELLED, S.PAUSED},
    S.PAUSED: {S.VALIDATING_FILES, S.QUEUED, S.CANCELLED},
    S.SUCCEEDED: set(),
    S.FAILED: set(),
    S.CANCELLED: set(),
}


@pytest.mark.parametrize("source", list(S))
@pytest.mark.parametrize("target", list(S))
def test_table(source: JobStatus, target: JobStatus) -> None:
    assert lifecycle.can_move(source, target) == (target in TABLE[source])
    job = new_job(status=source)
    if target in TABLE[source]:
        write = lifecycle.move(job, target, events=[note("moved")], progress_step=3)
        assert write.changes == {"status": target, "progress_step": 3}
        assert list(write.events) == [note("moved")]
    else:
        with pytest.raises(InvalidRequest):
            lifecycle.move(job, target, events=[note("moved")])


def test_final_statuses_are_those_without_a_way_out() -> None:
    assert {status for status in S if status.is_final} == {status for status, targets in ALLOWED_MOVES.items() if not targets}
    assert set(ALLOWED_MOVES) == set(S)


def test_creation_events() -> None:
    events = lifecycle.creation_events(new_job(id="ftjob-X", training_file="file-A"))
    assert [event.message for event in events] == ["Created fine-tuning job: ftjob-X", "Validating training file: file-A"]
    assert {(event.level, event.created_at, event.type) for event in events} == {("info", START, "message")}
    both = lifecycle.creation_events(new_job(training_file="file-A", validation_file="file-B"))
    assert both[1].message == "Validating training file: file-A and validation file: file-B"


@pytest.mark.parametrize("status", [s for s in S if not s.is_final])
def test_cancelled_from_every_unfinished_status(status: JobStatus) -> None:
    write = lifecycle.cancelled(new_job(status=status, fence=4), START + 2.5)
    assert write.changes["status"] is S.CANCELLED
    assert write.changes["fence"] == 5
    (event,) = write.events
    assert (event.level, event.message, event.created_at) == ("warn", "Fine tuning process stopping due to job cancellation", START + 2)


@pytest.mark.parametrize("status", [s for s in S if s.is_final])
def test_finished_job_is_not_cancelled(status: JobStatus) -> None:
    with pytest.raises(InvalidRequest, match="already completed"):
        lifecycle.cancelled(new_job(status=status), START)


@pytest.mark.parametrize(("attempts", "progressed", "after"), [(0, False, 1), (1, False, 2), (2, True, 0), (7, True, 0)])
def test_crash_that_is_forgiven(attempts: int, progressed: bool, after: int) -> None:
    job = new_job(status=S.RUNNING, attempts=attempts, fence=1, lease_owner="me", lease_expires_at=START + 1.0)
    write = lifecycle.crashed(job, START, progressed=progressed, max_attempts=3)
    assert write.changes == {"attempts": after, "estimated_finish": None, "fence": 2, "lease_owner": None, "lease_expires_at": None}
    assert not write.events


@pytest.mark.parametrize("status", [S.VALIDATING_FILES, S.QUEUED, S.RUNNING])
def test_last_crash_fails_the_job(status: JobStatus) -> None:
    write = lifecycle.crashed(new_job(status=status, attempts=2), START - 100, progressed=False, max_attempts=3)
    assert write.changes["status"] is S.FAILED
    assert write.changes["error"] == {"code": "server_error", "message": "The job failed due to an internal error.", "param": None}
    (event,) = write.events
    assert (event.level, event.message) == ("error", "The job failed due to an internal error.")
    assert event.created_at == START


def test_paused_job_does_not_fail_by_a_crash() -> None:
    write = lifecycle.crashed(new_job(status=S.PAUSED, attempts=9), START, progressed=False, max_attempts=3)
    assert "status" not in write.changes


@pytest.mark.parametrize("status", [S.VALIDATING_FILES, S.QUEUED, S.RUNNING])
def test_paused_from_every_status_that_waits_or_runs(status: JobStatus) -> None:
    job = new_job(status=status, fence=4, lease_owner="me", lease_expires_at=START + 9.0, estimated_finish=START + 50)
    write = lifecycle.paused(job, START + 2.5)
    assert write.changes == {
        "status": S.PAUSED,
        "paused_from": status,
        "estimated_finish": None,
        "fence": 5,
        "lease_owner": None,
        "lease_expires_at": None,
    }
    (event,) = write.events
    assert (event.level, event.message, event.created_at) == ("info", "The job has been paused", START + 2)


@pytest.mark.parametrize(
    ("paused_from", "after"), [(S.VALIDATING_FILES, S.VALIDATING_FILES), (S.QUEUED, S.QUEUED), (S.RUNNING, S.QUEUED), (None, S.QUEUED)]
)
def test_resumed_to_where_a_worker_finds_it(paused_from: JobStatus | None, after: JobStatus) -> None:
    write = lifecycle.resumed(new_job(status=S.PAUSED, paused_from=paused_from, fence=4), START)
    assert (write.changes["status"], write.changes["paused_from"], write.changes["fence"]) == (after, None, 5)
    (event,) = write.events
    assert (event.level, event.message) == ("info", "The job has been resumed")


@pytest.mark.parametrize("decide", [lifecycle.paused, lifecycle.resumed])
@pytest.mark.parametrize("status", [s for s in S if s.is_final])
def test_finished_job_is_neither_paused_nor_resumed(status: JobStatus, decide: Callable[[Job, float], object]) -> None:
    with pytest.raises(InvalidRequest, match="already completed"):
        decide(new_job(status=status), START)


def test_paused_only_once_and_resumed_only_when_paused() -> None:
    with pytest.raises(InvalidRequest, match="is already paused"):
        lifecycle.paused(new_job(status=S.PAUSED), START)
    for status in (S.VALIDATING_FILES, S.QUEUED, S.RUNNING):
        with pytest.raises(InvalidRequest, match=f"is {status}, not paused, and cannot be resumed"):
            lifecycle.resumed(new_job(status=status), START)


def test_a_pause_leaves_room_for_one_thing_its_checkpoint() -> None:
    parts = {"event": note("made"), "checkpoint": new_checkpoint("ftjob-x", 3), "model": new_model("ft:x")}
    write = lifecycle.pause_checkpoint(new_job(status=S.PAUSED, fence=5), 4, **parts)
    assert not write.changes
    assert (write.events, write.checkpoints, write.models) == ((parts["event"],), (parts["checkpoint"],), (parts["model"],))


@pytest.mark.parametrize(
    ("status", "fence"), [(S.RUNNING, 4), (S.RUNNING, 5), (S.QUEUED, 6), (S.CANCELLED, 6), (S.PAUSED, 4), (S.PAUSED, 6), (S.PAUSED, 7)]
)
def test_only_the_runner_whom_the_pause_stopped_may_write_it(status: JobStatus, fence: int) -> None:
    parts = {"event": note("made"), "checkpoint": new_checkpoint("ftjob-x", 3), "model": new_model("ft:x")}
    with pytest.raises(StaleLease):
        lifecycle.pause_checkpoint(new_job(status=status, fence=fence), 4, **parts)
