"""One attempt at a dataset task, from its lease to its end in the database.

What it does: gives the work its place, keeps the lease while it lasts, makes ordinary files of what it wrote, and ends the task
together with them: all of it, or nothing. What it does not: the work itself (``dataset_kinds.py``), or processes (``data_child.py``).
Called by ``data_child.py``; by tests in their own process.
"""

import errno
import threading
import time
from collections.abc import Callable

import orjson

from luthier.core.dataset_tasks import FINDINGS_FILE, MAX_RESULT_BYTES, DatasetTask, DatasetTaskStatus, TaskEnd
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, StaleLease, StorageFull, Unavailable
from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord
from luthier.core.jsonl import JsonlCheck
from luthier.core.settings import Settings
from luthier.data.import_rows import BadRows
from luthier.data.redact import CannotRedact
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.models import ModelStore
from luthier.storage.stored_completions import StoredCompletionStore
from luthier.worker.dataset_context import FINE_TUNE, USER_DATA, DatasetContext, FindingsFile, MadeFile, Outcome, TaskProgress
from luthier.worker.dataset_kinds import KINDS
from luthier.worker.task_folder import clear_work, fresh_work

LOOK_SECONDS = 0.25
RENEW_SECONDS = 3.0
_FINISH_TRIES = 5
_PIECE = 1 << 20
_CODES: tuple[tuple[type[LuthierError], str], ...] = (
    (BadRows, "invalid_rows"),
    (CannotRedact, "invalid_rows"),
    (NotFound, "not_found"),
    (InvalidRequest, "invalid_request"),
    (StorageFull, "storage_full"),
    (Unavailable, "unavailable"),
)
_FULL = "The server's disk is full; nothing was made."


class Pulse:
    """Renews the lease and makes progress public, in a thread of its own; ``on_lost`` is called once the lease is another's."""

    def __init__(self, store: DatasetTaskStore, task: DatasetTask, progress: TaskProgress, on_lost: Callable[[], None]) -> None:
        self._store, self._task, self._progress, self._on_lost = store, task, progress, on_lost
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._done.set()
        self._thread.join(timeout=5.0)

    def _beat(self) -> None:
        told, renewed = None, time.monotonic()
        while not self._done.wait(LOOK_SECONDS):
            latest = self._progress.latest()
            try:
                if latest != told or time.monotonic() - renewed >= RENEW_SECONDS:
                    self._store.renew(self._task.id, self._task.fence, latest)
                    told, renewed = latest, time.monotonic()
                else:
                    current = self._store.get(self._task.id)
                    if current is None or current.fence != self._task.fence:
                        raise StaleLease(f"The lease of {self._task.id} has passed on.")
            except (Unavailable, StorageFull):
                continue  # a locked database, a full disk: many looks fit into one lease
            except StaleLease:
                self._on_lost()
                return


def perform(task: DatasetTask, settings: Settings, database: Database, *, on_lost: Callable[[], None]) -> None:
    """Do a leased task and write its end, unless it was cancelled meanwhile."""
    store, blobs = DatasetTaskStore(database), BlobStore(settings.blobs_dir)
    folder = settings.datasets_dir / task.id
    work = fresh_work(folder)
    progress = TaskProgress()
    pulse = Pulse(store, task, progress, on_lost)
    try:
        with FindingsFile(folder / FINDINGS_FILE) as findings:
            context = DatasetContext(
                settings=settings,
                task=task,
                folder=work,
                blobs=blobs,
                models=ModelStore(database).in_project(task.project_id),
                completions=StoredCompletionStore(database).in_project(task.project_id),
                findings=findings,
                progress=progress,
            )
            end, files = _attempt(context)
        _write_end(store, task, end, files)
    except StaleLease:
        on_lost()
    finally:
        pulse.stop()
        clear_work(folder)


def _attempt(context: DatasetContext) -> tuple[TaskEnd, list[FileRecord]]:
    try:
        outcome = KINDS[context.task.kind](context)
        context.findings.flush()
        files = {name: store_file(context, made) for name, made in outcome.files.items()}
        result = _result(context, outcome, files)
        return TaskEnd(status=DatasetTaskStatus.COMPLETED, result=result, num_findings=context.findings.count), list(files.values())
    except StaleLease:
        raise
    except LuthierError as error:
        return _failed(context, error), []
    except MemoryError:
        return _failed(context, LuthierError("The server has not enough memory for this.", code="out_of_memory")), []
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _failed(context, StorageFull(_FULL)), []


def _result(context: DatasetContext, outcome: Outcome, files: dict[str, FileRecord]) -> dict[str, object]:
    result = dict(outcome.result)
    if files:
        result["files"] = {name: record.id for name, record in files.items()}
    if context.notes:
        result["notes"] = context.notes
    size = len(orjson.dumps(result))
    if size > MAX_RESULT_BYTES:
        raise InvalidRequest(f"The result has {size:,} bytes as JSON, and at most {MAX_RESULT_BYTES:,} are kept. Ask for less.")
    return result


def _failed(context: DatasetContext, error: LuthierError) -> TaskEnd:
    code = error.code or next((code for kind, code in _CODES if isinstance(error, kind)), "server_error")
    # The library speaks of the command line's option; here it is a field.
    message = (_FULL if isinstance(error, StorageFull) else error.message).replace("--skip-bad", "'skip_bad': true")
    told = {"code": code, "message": message, "param": error.param}
    return TaskEnd(status=DatasetTaskStatus.FAILED, error=told, result={"notes": context.notes} if context.notes else None)


def store_file(context: DatasetContext, made: MadeFile) -> FileRecord:
    """The bytes of a new file into the blob store, durably, and its record.

    What is for fine-tuning is held to an upload's rule; a file that breaks it (a repair cannot mend everything) becomes user data.

    Raises:
        InvalidRequest: it is larger than a file may be.
        StorageFull: the disk is full.
    """
    limit = context.settings.max_upload_bytes
    size = made.path.stat().st_size
    if size > limit:
        raise InvalidRequest(f"The new file would have {size:,} bytes; the maximum is {limit:,} bytes.")
    check = JsonlCheck(orjson.loads, max_line_bytes=context.settings.max_line_bytes)
    with context.blobs.writer() as blob, made.path.open("rb") as file:
        while piece := file.read(_PIECE):
            blob.write(piece)
            if made.purpose == FINE_TUNE:
                check.feed(piece)
        sha256, size = blob.commit()
    sound = made.purpose != FINE_TUNE or check.finish() is None
    return FileRecord(
        id=new_file_id(),
        filename=made.filename,
        purpose=made.purpose if sound else USER_DATA,
        bytes=size,
        sha256=sha256,
        created_at=int(time.time()),
    )


def _write_end(store: DatasetTaskStore, task: DatasetTask, end: TaskEnd, files: list[FileRecord]) -> None:
    for left in reversed(range(_FINISH_TRIES)):
        try:
            store.finish(task.id, task.fence, end, files)
            return
        except (Unavailable, StorageFull):
            if not left:
                raise
            time.sleep(1.0)
