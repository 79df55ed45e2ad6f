"""Stores that are narrowed to a project: what another owns is not there; and whose what was there before projects is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import select, text

import luthier.storage
from luthier.core.errors import NotFound, TooManyRequests
from luthier.core.jobs import CheckpointPermission, JobStatus, ModelKind
from luthier.core.keys import DEFAULT_PROJECT
from luthier.core.stored_completions import StoredCompletion
from luthier.core.uploads import LIFETIME_SECONDS, UploadRecord
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue, RetryMark
from luthier.storage import schema
from luthier.storage.batches import BatchStore
from luthier.storage.database import Database, migrate
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.files import FileStore
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.storage.ownership import Owned
from luthier.storage.permissions import PermissionStore
from luthier.storage.responses import ResponseStore
from luthier.storage.stored_completions import StoredCompletionStore
from luthier.storage.uploads import UploadStore
from tests.support.office import START, Clock, new_checkpoint, new_file, new_job, new_model, note

MINE, THEIRS = "proj_mine", "proj_theirs"
ITEM = {"id": "msg_1", "type": "message"}
BODY = {"id": "resp_1", "created_at": START, "output": [{"id": "msg_2"}]}
COMPLETION = StoredCompletion(id="chatcmpl-1", created_at=START, model="m", completion={}, messages=())
UPLOAD = UploadRecord(
    id="upload_1",
    filename="x.jsonl",
    purpose="fine-tune",
    bytes=1,
    mime_type="text/jsonl",
    created_at=START,
    expires_at=START + LIFETIME_SECONDS,
)


def test_a_new_stores_rows_belong_to_the_default_project_until_it_is_narrowed(database: Database) -> None:
    files = FileStore(database)
    files.add(new_file(id="file-1"))
    files.in_project(MINE).add(new_file(id="file-2"))
    with database.read() as connection:
        owners = {row.id: row.project_id for row in connection.execute(select(schema.files))}
    assert owners == {"file-1": DEFAULT_PROJECT, "file-2": MINE}
    assert len(files.list().items) == 2


def test_files(database: Database) -> None:
    files = FileStore(database)
    mine, theirs = files.in_project(MINE), files.in_project(THEIRS)
    file = new_file()
    mine.add(file)
    assert (mine.get(file.id), files.get(file.id), theirs.get(file.id)) == (file, file, None)
    assert theirs.list().items == ()
    with pytest.raises(NotFound):
        theirs.list(after=file.id)
    assert not theirs.delete(file.id)
    assert mine.delete(file.id)


def test_uploads_and_the_files_they_become(database: Database) -> None:
    uploads = UploadStore(database, Clock())
    uploads.in_project(MINE).add(UPLOAD)
    theirs = uploads.in_project(THEIRS)
    refused: tuple[Callable[[], Any], ...] = (
        lambda: theirs.load(UPLOAD.id),
        lambda: theirs.check_open(UPLOAD.id),
        lambda: theirs.cancel(UPLOAD.id),
        lambda: theirs.complete(UPLOAD.id, (), md5="0", file=new_file(), started_at=START),
    )
    for call in refused:
        with pytest.raises(NotFound):
            call()
    file = new_file()
    uploads.complete(UPLOAD.id, (), md5="0", file=file, started_at=START)
    assert FileStore(database).in_project(MINE).get(file.id) == file
    assert FileStore(database).in_project(THEIRS).get(file.id) is None


def test_stored_completions(database: Database) -> None:
    store = StoredCompletionStore(database)
    mine, theirs = store.in_project(MINE), store.in_project(THEIRS)
    mine.add(COMPLETION)
    assert (mine.get(COMPLETION.id), theirs.get(COMPLETION.id)) == (COMPLETION, None)
    assert theirs.list().items == ()
    with pytest.raises(NotFound):
        theirs.list(after=COMPLETION.id)
    assert not theirs.set_metadata(COMPLETION.id, {"a": "b"})
    assert not theirs.delete(COMPLETION.id)
    assert mine.list().items == (COMPLETION,)


def test_responses_and_their_items(database: Database) -> None:
    store = ResponseStore(database, Clock())
    mine, theirs = store.in_project(MINE), store.in_project(THEIRS)
    mine.add(BODY, [ITEM])
    assert (mine.get("resp_1"), theirs.get("resp_1")) == (BODY, None)
    assert theirs.context("resp_1") is None
    assert (mine.find_item("msg_1"), theirs.find_item("msg_1")) == (ITEM, None)
    assert theirs.input_items("resp_1").items == ()
    assert not theirs.delete("resp_1")
    assert mine.input_items("resp_1").items == (ITEM,)


def test_jobs_and_what_they_make(database: Database) -> None:
    queue, jobs, control = JobQueue(database), JobStore(database), JobControl(database)
    job = queue.in_project(MINE).submit(new_job())
    mine, theirs = jobs.in_project(MINE), jobs.in_project(THEIRS)
    assert (mine.get(job.id), theirs.get(job.id)) == (job, None)
    assert theirs.list().items == ()
    with pytest.raises(NotFound):
        theirs.list(after=job.id)
    for change in (control.in_project(THEIRS).cancel, control.in_project(THEIRS).pause, control.in_project(THEIRS).resume):
        with pytest.raises(NotFound):
            change(job.id)
    # The worker's own queue sees the jobs of all.
    leased = queue.lease("owner-test", [JobStatus.VALIDATING_FILES])
    assert leased is not None
    file, model, point = new_file(), new_model("ft:m"), new_checkpoint(job.id, 1)
    jobs.update(job.id, fence=leased.fence, files=[file], models=[model], checkpoints=[point], events=[note("x")])
    assert FileStore(database).in_project(MINE).get(file.id) == file
    assert FileStore(database).in_project(THEIRS).get(file.id) is None
    assert ModelStore(database).in_project(MINE).get("ft:m") == model
    assert ModelStore(database).in_project(THEIRS).get("ft:m") is None
    assert (mine.checkpoint(point.id), theirs.checkpoint(point.id)) == (point, None)
    assert control.in_project(MINE).cancel(job.id).status is JobStatus.CANCELLED


def test_models_are_the_bases_the_own_and_the_permitted(database: Database) -> None:
    models = ModelStore(database)
    mine, theirs = models.in_project(MINE), models.in_project(THEIRS)
    base, tuned = new_model("base", kind=ModelKind.BASE), new_model("ft:m")
    mine.put(base)
    mine.put(tuned)
    assert theirs.list() == (base,)
    assert (theirs.get("ft:m"), theirs.is_own("ft:m"), theirs.delete("ft:m")) == (None, False, False)
    permissions = PermissionStore(database)
    permissions.grant([CheckpointPermission(id="cp_1", model_name="ft:m", project_id=THEIRS, created_at=START)])
    assert theirs.list() == (base, tuned)
    assert (theirs.get("ft:m"), theirs.is_own("ft:m"), theirs.delete("ft:m")) == (tuned, False, False)
    assert models.in_project("proj_third").get("ft:m") is None
    permissions.delete("ft:m", "cp_1")
    assert theirs.get("ft:m") is None
    assert mine.is_own("ft:m")
    assert mine.delete("ft:m")


def test_jobs_per_day_are_counted_by_key_and_forgotten_after_a_day(database: Database) -> None:
    queue = JobQueue(database)

    def submit(key: str, at: float, retry_count: int = 0, body: str = "x") -> str:
        mark = RetryMark(api_key_id=key, body_sha256=body, retry_count=retry_count, received_at=at)
        return queue.submit(new_job(), retry=mark, daily_limit=2).id

    first = submit("a", START)
    assert submit("a", START + 1, retry_count=1) == first  # a repetition makes no second one
    submit("a", START + 100, body="y")
    with pytest.raises(TooManyRequests) as error:
        submit("a", START + 200, body="z")
    assert error.value.pointless
    assert error.value.retry_after == 86400 - 200
    assert submit("a", START + 201, retry_count=1, body="y")
    submit("b", START + 200)
    submit("a", START + 86400 + 1, body="z")
    with pytest.raises(TooManyRequests):
        submit("a", START + 86400 + 2, body="w")


def test_every_table_with_an_owner_has_a_store_that_can_be_narrowed() -> None:
    owned = {table.name for table in schema.metadata.tables.values() if "project_id" in table.c}
    assert owned - {"api_keys", "checkpoint_permissions"} == {
        "files",
        "uploads",
        "jobs",
        "models",
        "stored_completions",
        "responses",
        "batches",
        "dataset_tasks",
    }
    stores = {FileStore, UploadStore, JobStore, ModelStore, StoredCompletionStore, ResponseStore, BatchStore, DatasetTaskStore}
    assert stores <= set(Owned.__subclasses__())


def test_what_was_there_before_belongs_to_the_default_project(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    before = Database(path)
    with before.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(luthier.storage.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0007")
        columns = "name, kind, base, path, created_at, owned_by, row_format, sha256"
        for name, kind in (("old", "base"), ("ft:old", "adapter")):
            values = f"'{name}', '{kind}', 'old', 'models/old', 1, 'system', 'chat', ''"
            connection.execute(text(f"INSERT INTO models ({columns}) VALUES ({values})"))
        values = "'file-old', 'x', 'fine-tune', 1, 'a', 1, 'processed'"
        connection.execute(text(f"INSERT INTO files (id, filename, purpose, bytes, sha256, created_at, status) VALUES ({values})"))
    before.close()
    migrate(path)
    after = Database(path)
    mine, theirs = ModelStore(after).in_project(DEFAULT_PROJECT), ModelStore(after).in_project(THEIRS)
    assert [model.name for model in mine.list()] == ["old", "ft:old"]
    assert [model.name for model in theirs.list()] == ["old"]
    assert FileStore(after).in_project(DEFAULT_PROJECT).get("file-old") is not None
    assert FileStore(after).in_project(THEIRS).get("file-old") is None
    after.close()
