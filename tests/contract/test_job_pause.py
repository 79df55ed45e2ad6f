"""Pausing and resuming, with the official client."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from luthier.core.jobs import JobStatus
from tests.support.api_server import ApiServer
from tests.support.office import note

BASE_NAME = "gpt-4o-mini-2024-07-18"


def create(client: openai.OpenAI, training_file: str) -> Any:
    return client.fine_tuning.jobs.create(model=BASE_NAME, training_file=training_file)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """As it is delivered: to the letter of the schema a paused job would be a queued one."""
    server = ApiServer(tmp_path_factory.mktemp("api") / "data")
    yield server
    server.stop()


def lenient(server: ApiServer) -> openai.OpenAI:
    """OpenAI's schema does not list the status that its own example of a paused job shows."""
    return server.client()


def lease(server: ApiServer, job_id: str) -> int:
    """The number of a lease on this very job, whatever else waits."""
    while True:
        job = server.services.queue.lease("owner-test", [JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.RUNNING])
        assert job is not None
        if job.id == job_id:
            return job.fence


def test_a_waiting_job_is_paused_and_resumed(server: ApiServer, training_file: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = create(lenient(server), training_file)
    paused = jobs.pause(job.id)
    assert (paused.id, paused.status, paused.finished_at, paused.estimated_finish) == (job.id, "paused", None, None)
    assert jobs.retrieve(job.id).status == "paused"
    assert jobs.list(limit=1).data[0].status == "paused"
    assert jobs.resume(job.id).status == "validating_files"
    assert [e.message for e in jobs.list_events(job.id, limit=2).data] == ["The job has been resumed", "The job has been paused"]


def test_a_running_job_goes_back_into_the_queue(server: ApiServer, training_file: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job_id = create(lenient(server), training_file).id
    fence, store = lease(server, job_id), server.services.jobs
    store.update(job_id, fence=fence, changes={"status": JobStatus.QUEUED}, events=[note("queued")])
    store.update(job_id, fence=fence, changes={"status": JobStatus.RUNNING, "estimated_finish": 4_000_000_000}, events=[note("started")])
    assert jobs.retrieve(job_id).estimated_finish == 4_000_000_000
    paused = jobs.pause(job_id)
    assert (paused.status, paused.estimated_finish) == ("paused", None)
    assert jobs.resume(job_id).status == "queued"


def test_an_estimate_is_shown_only_while_a_trainer_has_the_job(server: ApiServer, training_file: str) -> None:
    client = lenient(server)
    job_id = create(client, training_file).id
    fence, store = lease(server, job_id), server.services.jobs
    store.update(job_id, fence=fence, changes={"status": JobStatus.QUEUED}, events=[note("queued")])
    store.update(job_id, fence=fence, changes={"status": JobStatus.RUNNING, "estimated_finish": 4_000_000_000}, events=[note("started")])
    server.services.queue.release(job_id, fence)
    assert client.fine_tuning.jobs.retrieve(job_id).estimated_finish is None


def test_a_paused_job_is_cancelled(server: ApiServer, training_file: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = create(lenient(server), training_file)
    jobs.pause(job.id)
    assert jobs.cancel(job.id).status == "cancelled"


@pytest.mark.parametrize("what", ["pause", "resume"])
def test_a_finished_job_is_neither_paused_nor_resumed(server: ApiServer, training_file: str, what: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = create(lenient(server), training_file)
    jobs.cancel(job.id)
    with pytest.raises(openai.BadRequestError) as error:
        getattr(jobs, what)(job.id)
    assert error.value.type == "invalid_request_error"
    assert "Job has already completed" in error.value.message
    assert jobs.retrieve(job.id).status == "cancelled"


def test_wrong_states_are_400_in_plain_words(server: ApiServer, training_file: str) -> None:
    jobs = lenient(server).fine_tuning.jobs
    job = create(lenient(server), training_file)
    with pytest.raises(openai.BadRequestError, match="is validating_files, not paused, and cannot be resumed"):
        jobs.resume(job.id)
    jobs.pause(job.id)
    with pytest.raises(openai.BadRequestError, match="is already paused"):
        jobs.pause(job.id)


@pytest.mark.parametrize("what", ["pause", "resume"])
def test_an_unknown_job_is_not_found(client: openai.OpenAI, what: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        getattr(client.fine_tuning.jobs, what)("ftjob-nothing")
    assert (error.value.code, error.value.param) == ("fine_tune_not_found", "fine_tune_id")
