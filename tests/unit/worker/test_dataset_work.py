"""One attempt at a dataset task: what it makes, what it leaves behind, and that it is all or nothing."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.core.dataset_tasks import MAX_RESULT_BYTES, DatasetKind, DatasetTask, DatasetTaskStatus, TaskInput
from luthier.core.errors import JobFailure, StorageFull, Unavailable
from luthier.core.ids import new_dataset_task_id
from luthier.core.keys import DEFAULT_PROJECT
from luthier.core.settings import Settings
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.files import FileStore
from luthier.worker import dataset_work
from luthier.worker.dataset_context import DatasetContext, FindingsFile, MadeFile, Outcome, safe_name
from tests.support.data_worker import run_one
from tests.support.office import START

ROW = json.dumps({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}) + "\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def do(database: Database, settings: Settings) -> Callable[..., DatasetTask]:
    """Store a file and a task over it, and do it."""

    def work(kind: DatasetKind = DatasetKind.CHECK, data: bytes = ROW.encode() * 10, name: str = "a.jsonl", **options: Any) -> DatasetTask:
        sha256, size = BlobStore(settings.blobs_dir).put(data)
        tasks = DatasetTaskStore(database)
        task = DatasetTask(
            id=new_dataset_task_id(),
            project_id=DEFAULT_PROJECT,
            kind=kind,
            options={"role": "training", "to_chat": False, "diff": False, "skip_bad": False, **options},
            inputs=(TaskInput(role="file_id", file_id="file-1", filename=name, sha256=sha256, bytes=size),),
            created_at=START,
        )
        tasks.add(task)
        assert run_one(tasks, settings, database, quick=False)
        done = tasks.get(task.id)
        assert done is not None
        assert not (settings.datasets_dir / task.id / "work").exists()
        return done

    return work


def instead(monkeypatch: pytest.MonkeyPatch, work: Callable[[DatasetContext], Outcome]) -> None:
    monkeypatch.setattr(dataset_work, "KINDS", {DatasetKind.CHECK: work})


def test_findings_stand_in_the_tasks_folder(do: Callable[..., DatasetTask], settings: Settings) -> None:
    task = do(data=b"{nope\n" * 60)
    assert task.result is not None
    lines = (settings.datasets_dir / task.id / "findings.jsonl").read_text(encoding="utf-8").splitlines()
    assert (len(lines), task.num_findings, len(task.result["findings"])) == (60, 60, 50)
    assert [json.loads(line) for line in lines[:50]] == task.result["findings"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b\\c.csv", "\x00\x1b[31m.jsonl", "", "漢" * 500 + ".jsonl", "CON.jsonl "])
def test_a_files_name_is_no_path(name: str, do: Callable[..., DatasetTask]) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe.encode()) <= 255
    assert not {"/", "\\", "\x00", "\x1b"} & set(safe)
    assert safe not in (".", "..")
    assert do(name=name).status is DatasetTaskStatus.COMPLETED


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (JobFailure("It says so.", code="invalid_training_file", param="training_file"), "invalid_training_file", "It says so."),
        (Unavailable("Nobody is there."), "unavailable", "Nobody is there."),
        (StorageFull("x"), "storage_full", "disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full", "disk is full"),
        (MemoryError(), "out_of_memory", "not enough memory"),
    ],
)
def test_an_expected_error_fails_the_task_with_a_sentence(
    do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, words: str
) -> None:
    def work(ctx: DatasetContext) -> Outcome:
        (ctx.folder / "half.jsonl").write_text("half", encoding="utf-8")
        raise error

    instead(monkeypatch, work)
    task = do()
    assert task.status is DatasetTaskStatus.FAILED
    assert task.error is not None
    assert task.error["code"] == code
    assert words in task.error["message"]


def test_findings_that_the_disk_does_not_take_fail_the_task(do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: FindingsFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FindingsFile, "flush", full)
    task = do(data=b"{nope\n")
    assert task.error is not None
    assert (task.status, task.error["code"], task.num_findings) == (DatasetTaskStatus.FAILED, "storage_full", 0)


def test_what_nobody_foresaw_is_raised_to_the_process_edge(do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_: DatasetContext) -> Outcome:
        raise ZeroDivisionError

    instead(monkeypatch, work)
    with pytest.raises(ZeroDivisionError):
        do()


def test_a_file_that_is_too_large_makes_none(
    do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch, database: Database, settings: Settings
) -> None:
    def work(ctx: DatasetContext) -> Outcome:
        paths = {name: ctx.folder / name for name in ("small", "large")}
        paths["small"].write_bytes(b"x")
        with paths["large"].open("wb") as file:
            file.truncate(settings.max_upload_bytes + 1)
        return Outcome(result={}, files={name: MadeFile(path=path, filename=name) for name, path in paths.items()})

    instead(monkeypatch, work)
    task = do()
    assert task.error is not None
    assert "the maximum is" in task.error["message"]
    assert FileStore(database).list().items == ()


def test_a_result_that_is_too_large_is_refused(do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, lambda _: Outcome(result={"text": "x" * MAX_RESULT_BYTES}))
    task = do()
    assert (task.status, task.result) == (DatasetTaskStatus.FAILED, None)
    assert task.error is not None
    assert "Ask for less" in task.error["message"]


def test_a_task_that_is_cancelled_in_work_makes_no_file(
    do: Callable[..., DatasetTask], monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    def work(ctx: DatasetContext) -> Outcome:
        DatasetTaskStore(database).cancel(ctx.task.id)
        path = ctx.folder / "made.jsonl"
        path.write_text(ROW, encoding="utf-8")
        return Outcome(result={}, files={"made": MadeFile(path=path, filename="made.jsonl")})

    instead(monkeypatch, work)
    assert do().status is DatasetTaskStatus.CANCELLED
    assert FileStore(database).list().items == ()


def test_the_bytes_of_the_input_are_never_touched(do: Callable[..., DatasetTask], settings: Settings) -> None:
    data = b"\xef\xbb\xbf" + ROW.encode()
    task = do(DatasetKind.FIX, data)
    assert task.status is DatasetTaskStatus.COMPLETED
    assert BlobStore(settings.blobs_dir).path(task.inputs[0].sha256).read_bytes() == data
    assert task.result is not None
    assert task.result["changes"] == {"byte order mark": {"count": 1, "first": [1]}}
