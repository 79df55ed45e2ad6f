"""Files: rows, pages, tombstones, and which blobs they hold."""

import pytest

from luthier.core.errors import NotFound
from luthier.core.jobs import JobStatus
from luthier.storage.database import Database
from luthier.storage.files import ORPHAN_SECONDS, FileStore, referenced_blobs
from luthier.storage.jobs import JobStore
from tests.support.office import START, Clock, new_file, new_job, note


@pytest.fixture
def files(database: Database, clock: Clock) -> FileStore:
    return FileStore(database, clock)


def test_record_comes_back_as_it_was(files: FileStore) -> None:
    record = new_file(filename="Ünï\u202ecode '; DROP TABLE files;--", expires_at=START + 5, status="error")
    files.add(record)
    assert files.get(record.id) == record
    assert files.get("file-unknown") is None


def test_list_is_ordered_by_insertion_not_by_time(files: FileStore) -> None:
    records = [new_file(created_at=START - n) for n in range(5)]
    for record in records:
        files.add(record)
    assert list(files.list().items) == records[::-1]
    assert list(files.list(order="asc").items) == records


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_join_to_the_whole_list(files: FileStore, order: str) -> None:
    for _ in range(5):
        files.add(new_file())
    seen, after, more = [], None, True
    while more:
        page = files.list(limit=2, order=order, after=after)
        seen += page.items
        after, more = page.items[-1].id, page.has_more
    assert tuple(seen) == files.list(order=order).items
    assert len(seen) == 5


def test_page_of_exactly_the_rest_has_no_more(files: FileStore) -> None:
    for _ in range(2):
        files.add(new_file())
    assert not files.list(limit=2).has_more
    assert files.list(limit=1).has_more


def test_purpose_filters(files: FileStore) -> None:
    files.add(new_file(purpose="batch"))
    wanted = new_file(purpose="fine-tune")
    files.add(wanted)
    assert files.list(purpose="fine-tune").items == (wanted,)


def test_unknown_cursor(files: FileStore) -> None:
    with pytest.raises(NotFound) as caught:
        files.list(after="file-unknown")
    assert caught.value.param == "after"


def test_delete_happens_once_and_paging_goes_on(files: FileStore) -> None:
    old, new = new_file(), new_file()
    files.add(old)
    files.add(new)
    assert files.delete(new.id)
    assert not files.delete(new.id)
    assert not files.delete("file-unknown")
    assert files.get(new.id) is None
    assert files.list(after=new.id).items == (old,)


def test_an_expired_file_is_gone_for_every_caller(files: FileStore, clock: Clock) -> None:
    expiring, kept = new_file(expires_at=START + 10), new_file()
    files.add(expiring)
    files.add(kept)
    clock.now = START + 9
    assert files.get(expiring.id) == expiring
    clock.now = START + 10
    assert files.get(expiring.id) is None
    assert files.list(order="asc").items == (kept,)
    assert files.list(order="asc", after=expiring.id).items == (kept,)
    assert not files.delete(expiring.id)


def test_pages_are_full_although_files_expired(files: FileStore, clock: Clock) -> None:
    records = [new_file(expires_at=START + 10 if n % 2 else None) for n in range(6)]
    for record in records:
        files.add(record)
    clock.now = START + 10
    page = files.list(limit=2, order="asc")
    assert page.items == (records[0], records[2])
    assert page.has_more
    last = files.list(limit=2, order="asc", after=records[2].id)
    assert last.items == (records[4],)
    assert not last.has_more


def test_blobs_of_files_deletions_and_active_jobs_are_kept(database: Database, files: FileStore, clock: Clock) -> None:
    live, gone = new_file(sha256="1" * 64), new_file(sha256="2" * 64)
    files.add(live)
    files.add(gone)
    files.delete(gone.id)
    jobs = JobStore(database, clock)
    job = jobs.insert(new_job(training_sha256="3" * 64, validation_sha256="4" * 64), [])
    jobs.insert(new_job(training_sha256="3" * 64), [])
    assert referenced_blobs(database, clock.now) == {"1" * 64, "2" * 64, "3" * 64, "4" * 64}
    assert referenced_blobs(database, clock.now + ORPHAN_SECONDS) == {"1" * 64, "3" * 64, "4" * 64}
    jobs.update(job.id, fence=0, changes={"status": JobStatus.FAILED}, events=[note("failed")])
    assert referenced_blobs(database, clock.now + ORPHAN_SECONDS) == {"1" * 64, "3" * 64}
