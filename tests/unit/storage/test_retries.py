"""Which creations are the same creation."""

from typing import Any

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.jobs import Job
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.retries import KEY_SECONDS, RETRY_SECONDS, RetryMark
from tests.support.office import START, new_job, note


def mark(**changes: Any) -> RetryMark:
    return RetryMark(**{"api_key_id": "key", "body_sha256": "body", "retry_count": 0, "received_at": START, **changes})


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


def create(jobs: JobStore, **changes: Any) -> Job:
    return jobs.insert(new_job(), [note("created")], mark(**changes))


def total(jobs: JobStore) -> int:
    return len(jobs.list(limit=100).items)


def test_two_deliberate_creations_stay_two(jobs: JobStore) -> None:
    assert create(jobs).id != create(jobs).id


def test_chain_of_retries_is_one_job(jobs: JobStore) -> None:
    first = create(jobs)
    assert create(jobs, retry_count=1) == first
    assert create(jobs, retry_count=2) == first
    assert total(jobs) == 1
    assert len(jobs.events_since(first.id, 0)) == 1


def test_retry_whose_first_attempt_never_came_makes_a_job(jobs: JobStore) -> None:
    first = create(jobs, retry_count=1)
    assert create(jobs, retry_count=2) == first
    assert total(jobs) == 1


def test_skipped_retry_still_finds_its_job(jobs: JobStore) -> None:
    assert create(jobs) == create(jobs, retry_count=2)


def test_two_chains_find_two_jobs(jobs: JobStore) -> None:
    made = {create(jobs).id, create(jobs).id}
    assert {create(jobs, retry_count=1).id, create(jobs, retry_count=1).id} == made
    assert {create(jobs, retry_count=2).id, create(jobs, retry_count=2).id} == made
    assert create(jobs, retry_count=1).id not in made


def test_retry_means_the_newest_of_equals(jobs: JobStore) -> None:
    create(jobs)
    second = create(jobs)
    assert create(jobs, retry_count=1) == second


@pytest.mark.parametrize(
    "changes",
    [{"api_key_id": "other"}, {"body_sha256": "other"}, {"received_at": START + RETRY_SECONDS}, {"retry_count": 0}],
)
def test_what_is_not_a_repetition(jobs: JobStore, changes: dict[str, Any]) -> None:
    first = create(jobs)
    assert create(jobs, **{"retry_count": 1, **changes}).id != first.id


def test_idempotency_key_returns_its_job_for_a_day(jobs: JobStore) -> None:
    first = create(jobs, idempotency_key="k")
    assert create(jobs, idempotency_key="k", received_at=START + KEY_SECONDS - 1) == first
    assert create(jobs, idempotency_key="k", received_at=START + KEY_SECONDS).id != first.id
    assert create(jobs, idempotency_key="other").id != first.id
    assert create(jobs, idempotency_key="k", api_key_id="other").id != first.id


def test_idempotency_key_with_another_body_is_refused(jobs: JobStore) -> None:
    create(jobs, idempotency_key="k")
    with pytest.raises(InvalidRequest) as caught:
        create(jobs, idempotency_key="k", body_sha256="other")
    assert caught.value.code == "idempotency_key_reused"
    assert total(jobs) == 1


def test_retry_without_key_ignores_creations_with_one(jobs: JobStore) -> None:
    first = create(jobs, idempotency_key="k")
    assert create(jobs, retry_count=1).id != first.id


def test_creation_without_mark_is_never_merged(jobs: JobStore) -> None:
    jobs.insert(new_job(), [])
    create(jobs, retry_count=1)
    assert total(jobs) == 2
