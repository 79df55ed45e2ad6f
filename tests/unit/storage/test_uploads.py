"""Uploads: what each status allows, decided in one transaction."""

from typing import Any

import pytest

from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.uploads import LIFETIME_SECONDS, PartRecord, UploadRecord, UploadStatus
from luthier.storage import uploads as module
from luthier.storage.database import Database
from luthier.storage.files import FileStore
from luthier.storage.uploads import UploadStore, is_repeated
from tests.support.office import START, Clock, new_file

LIMIT = 1000


@pytest.fixture
def uploads(database: Database, clock: Clock) -> UploadStore:
    return UploadStore(database, clock)


def new_upload(uploads: UploadStore, **changes: Any) -> UploadRecord:
    values: dict[str, Any] = {
        "id": ids.new_upload_id(),
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "bytes": 12,
        "mime_type": "text/jsonl",
        "created_at": START,
        "expires_at": START + LIFETIME_SECONDS,
    }
    record = UploadRecord(**{**values, **changes})
    uploads.add(record)
    return record


def new_part(uploads: UploadStore, upload: UploadRecord, size: int = 1) -> PartRecord:
    part = PartRecord(id=ids.new_part_id(), upload_id=upload.id, bytes=size, created_at=START)
    uploads.add_part(part, max_bytes=LIMIT)
    return part


def test_record_comes_back_as_it_was(uploads: UploadStore) -> None:
    record = new_upload(uploads, file_expires_after=3600, bytes=8 * 1024**3)
    assert uploads.load(record.id) == record
    with pytest.raises(NotFound, match="No such Upload object: upload_x"):
        uploads.load("upload_x")


def test_an_upload_expires_with_the_clock(uploads: UploadStore, clock: Clock) -> None:
    record = new_upload(uploads)
    part = new_part(uploads, record)
    clock.now = record.expires_at - 1
    uploads.check_open(record.id)
    clock.now = record.expires_at
    assert uploads.load(record.id).status is UploadStatus.EXPIRED
    with pytest.raises(InvalidRequest, match="is expired"):
        new_part(uploads, record)
    with pytest.raises(InvalidRequest, match="is expired"):
        uploads.complete(record.id, [part.id], md5="m", file=new_file(), started_at=clock.now)
    assert uploads.cancel(record.id)[0].status is UploadStatus.EXPIRED


def test_a_completion_that_began_in_time_may_end_late(uploads: UploadStore, clock: Clock) -> None:
    record = new_upload(uploads)
    part = new_part(uploads, record)
    clock.now = record.expires_at + 60
    done, freed = uploads.complete(record.id, [part.id], md5="m", file=new_file(), started_at=START + 1)
    assert (done.status, freed) == (UploadStatus.COMPLETED, (part.id,))


def test_parts_come_in_the_order_asked_for(uploads: UploadStore) -> None:
    record, other = new_upload(uploads), new_upload(uploads)
    first, second, foreign = new_part(uploads, record), new_part(uploads, record), new_part(uploads, other)
    assert uploads.parts(record.id, [second.id, first.id]) == (second, first)
    for wrong in ([first.id, foreign.id], [first.id, first.id], ["part_?"]):
        with pytest.raises(InvalidRequest):
            uploads.parts(record.id, wrong)


def test_count_and_total_of_parts_are_bounded(uploads: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = new_upload(uploads)
    new_part(uploads, record, LIMIT - 1)
    with pytest.raises(InvalidRequest, match="maximum of 1000 bytes"):
        new_part(uploads, record, 2)
    monkeypatch.setattr(module, "MAX_PARTS", 2)
    new_part(uploads, record, 1)
    with pytest.raises(InvalidRequest, match="maximum of 2 parts"):
        new_part(uploads, record, 0)


def test_complete_makes_the_file_and_frees_all_parts(uploads: UploadStore, database: Database) -> None:
    record, other = new_upload(uploads), new_upload(uploads)
    used, unused, foreign = new_part(uploads, record), new_part(uploads, record), new_part(uploads, other)
    file = new_file()
    done, freed = uploads.complete(record.id, [used.id], md5="m", file=file, started_at=START)
    assert (done.status, done.file_id, done.part_ids) == (UploadStatus.COMPLETED, file.id, (used.id,))
    assert sorted(freed) == sorted([used.id, unused.id])
    assert uploads.all_part_ids() == {foreign.id}
    assert FileStore(database).get(file.id) == file
    again, freed = uploads.complete(record.id, [used.id], md5="m", file=new_file(), started_at=START)
    assert (again, freed) == (done, ())
    assert len(FileStore(database).list().items) == 1
    with pytest.raises(InvalidRequest, match="is completed"):
        new_part(uploads, record)
    with pytest.raises(InvalidRequest, match="is completed"):
        uploads.complete(record.id, [unused.id], md5="m", file=new_file(), started_at=START)
    assert len(FileStore(database).list().items) == 1


def test_a_file_that_cannot_be_stored_leaves_the_upload_pending(uploads: UploadStore, database: Database) -> None:
    record = new_upload(uploads)
    part, file = new_part(uploads, record), new_file()
    FileStore(database).add(file)
    with pytest.raises(Exception, match="UNIQUE"):
        uploads.complete(record.id, [part.id], md5="m", file=file, started_at=START)
    assert uploads.load(record.id).status is UploadStatus.PENDING
    assert uploads.all_part_ids() == {part.id}


def test_the_same_request_is_recognised(uploads: UploadStore) -> None:
    record = new_upload(uploads)
    part = new_part(uploads, record)
    assert not is_repeated(uploads.load(record.id), [part.id], None)
    done, _ = uploads.complete(record.id, [part.id], md5="m", file=new_file(), started_at=START)
    assert is_repeated(done, [part.id], None)
    assert is_repeated(done, [part.id], "m")
    assert not is_repeated(done, [part.id], "other")
    assert not is_repeated(done, [], None)


def test_cancel_frees_the_parts_once(uploads: UploadStore, clock: Clock) -> None:
    record = new_upload(uploads)
    part = new_part(uploads, record)
    cancelled, freed = uploads.cancel(record.id)
    assert (cancelled.status, freed) == (UploadStatus.CANCELLED, (part.id,))
    clock.now += 2 * LIFETIME_SECONDS
    assert uploads.cancel(record.id) == (cancelled, ())
    with pytest.raises(InvalidRequest, match="is cancelled"):
        uploads.complete(record.id, [part.id], md5="m", file=new_file(), started_at=START)


def test_parts_of_expired_uploads_are_forgotten_an_hour_later(uploads: UploadStore, clock: Clock) -> None:
    old, young = new_upload(uploads), new_upload(uploads, expires_at=START + 2 * LIFETIME_SECONDS)
    new_part(uploads, old)
    kept = new_part(uploads, young)
    clock.now = old.expires_at + LIFETIME_SECONDS - 1
    uploads.forget_expired_parts()
    assert len(uploads.all_part_ids()) == 2
    clock.now += 1
    uploads.forget_expired_parts()
    assert uploads.all_part_ids() == {kept.id}
