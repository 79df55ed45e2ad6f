"""What nobody needs is removed, and only that."""

import os
from pathlib import Path

import pytest

from luthier.core.ids import new_part_id, new_upload_id
from luthier.core.jobs import FileRecord, JobStatus
from luthier.core.uploads import LIFETIME_SECONDS, PartRecord, UploadRecord
from luthier.storage.blobs import BlobStore
from luthier.storage.collection import collect_unneeded
from luthier.storage.database import Database
from luthier.storage.files import ORPHAN_SECONDS, FileStore
from luthier.storage.jobs import JobStore
from luthier.storage.parts import PartFiles
from luthier.storage.uploads import UploadStore
from tests.support.office import START, Clock, new_file, new_job, note

DAY = ORPHAN_SECONDS


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def parts(tmp_path: Path) -> PartFiles:
    return PartFiles(tmp_path / "uploads")


def age(path: Path) -> None:
    os.utime(path, (START, START))


def stored(blobs: BlobStore, files: FileStore, data: bytes, **changes: object) -> FileRecord:
    """A file whose bytes have lain there for long."""
    sha256, size = blobs.put(data)
    age(blobs.path(sha256))
    record = new_file(sha256=sha256, bytes=size, **changes)
    files.add(record)
    return record


@pytest.mark.parametrize("how", ["deleted", "expired"])
def test_a_file_that_goes_never_breaks_a_job_that_uses_it(
    database: Database, clock: Clock, blobs: BlobStore, parts: PartFiles, how: str
) -> None:
    files, jobs = FileStore(database, clock), JobStore(database, clock)
    used = stored(blobs, files, b"used", expires_at=START + 10 if how == "expired" else None)
    job = jobs.insert(new_job(training_file=used.id, training_sha256=used.sha256), [])
    if how == "deleted":
        assert files.delete(used.id)
    clock.now += 30 * DAY
    assert files.get(used.id) is None
    assert collect_unneeded(database, blobs, parts, clock) == 0
    assert blobs.path(used.sha256).read_bytes() == b"used"
    jobs.update(job.id, fence=0, changes={"status": JobStatus.FAILED}, events=[note("failed")])
    assert collect_unneeded(database, blobs, parts, clock) == 1
    assert not blobs.exists(used.sha256)


def test_an_expired_file_keeps_its_bytes_for_a_day(database: Database, clock: Clock, blobs: BlobStore, parts: PartFiles) -> None:
    files = FileStore(database, clock)
    gone, kept = stored(blobs, files, b"gone", expires_at=START + 10), stored(blobs, files, b"kept")
    clock.now = START + 10 + DAY - 1
    assert collect_unneeded(database, blobs, parts, clock) == 0
    clock.now += 1
    assert collect_unneeded(database, blobs, parts, clock) == 1
    assert (blobs.exists(gone.sha256), blobs.exists(kept.sha256)) == (False, True)


def test_bytes_of_another_file_with_the_same_content_stay(database: Database, clock: Clock, blobs: BlobStore, parts: PartFiles) -> None:
    files = FileStore(database, clock)
    stored(blobs, files, b"same", expires_at=START + 10)
    other = stored(blobs, files, b"same")
    clock.now += 2 * DAY
    assert collect_unneeded(database, blobs, parts, clock) == 0
    assert blobs.exists(other.sha256)


def test_parts_of_uploads_that_are_over_are_removed(database: Database, clock: Clock, blobs: BlobStore, parts: PartFiles) -> None:
    uploads = UploadStore(database, clock)
    expiries = {START + LIFETIME_SECONDS: "", START + 9 * LIFETIME_SECONDS: ""}
    for expires_at in expiries:
        upload = UploadRecord(
            id=new_upload_id(), filename="a", purpose="vision", bytes=1, mime_type="x", created_at=START, expires_at=expires_at
        )
        uploads.add(upload)
        part = PartRecord(id=new_part_id(), upload_id=upload.id, bytes=1, created_at=START)
        uploads.add_part(part, max_bytes=1)
        expiries[expires_at] = part.id
    left_by_a_crash = new_part_id()
    for part_id in (*expiries.values(), left_by_a_crash):
        with parts.writer(part_id) as writer:
            writer.keep()
        age(parts.path(part_id))
    assert collect_unneeded(database, blobs, parts, clock) == 1
    assert not parts.path(left_by_a_crash).exists()
    clock.now = START + 2 * LIFETIME_SECONDS
    assert collect_unneeded(database, blobs, parts, clock) == 1
    assert [parts.path(part_id).exists() for part_id in expiries.values()] == [False, True]
