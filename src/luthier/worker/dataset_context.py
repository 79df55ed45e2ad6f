"""Everything that the work of a dataset task is handed, and what it hands back.

What it does: the task's files under their own names, a place for new ones, findings on the disk, progress. What it does not: the
work (``dataset_kinds.py``), or the task's row (``dataset_work.py``).
"""

import contextlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from luthier.core.dataset_tasks import SHOWN_FINDINGS, DatasetTask, TaskInput
from luthier.core.errors import LuthierError
from luthier.core.settings import Settings
from luthier.storage.blobs import BlobStore
from luthier.storage.models import ModelStore
from luthier.storage.stored_completions import StoredCompletionStore

FINE_TUNE, USER_DATA = "fine-tune", "user_data"
_UNSAFE = re.compile(r"[^\w.+= -]")
_MAX_NAME = 60
"""Characters: with four bytes each they still fit into a name of the file system."""


class FindingsFile:
    """All findings of a task as JSON lines, and the first of them at hand; a context manager."""

    def __init__(self, path: Path) -> None:
        """Begin an empty file."""
        self._file = path.open("wb")
        self.count = 0
        self.first: list[Mapping[str, Any]] = []

    def add(self, finding: Mapping[str, Any]) -> None:
        """Take the next one."""
        self.count += 1
        if len(self.first) < SHOWN_FINDINGS:
            self.first.append(finding)
        self._file.write(orjson.dumps(finding, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Hand everything to the system.

        Raises:
            OSError: the disk is full.
        """
        self._file.flush()

    def __enter__(self) -> "FindingsFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # What a full disk did not take was told by ``flush``, and closing would only tell it again.
        with contextlib.suppress(OSError):
            self._file.close()


class TaskProgress:
    """How far the work is: told by the work, read by the pulse's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, Any] | None = None

    def tell(self, done: int, total: int | None, unit: str) -> None:
        """``done`` of ``total`` (None: unknown), in bytes or rows."""
        latest = {"done": done if total is None else min(done, total), "total": total, "unit": unit}
        with self._lock:
            self._latest = latest

    def latest(self) -> dict[str, Any] | None:
        """What was told last."""
        with self._lock:
            return self._latest


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeFile:
    """A file that the work wrote and that is to become an ordinary file of the project."""

    path: Path
    filename: str
    purpose: str = FINE_TUNE


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a task came to; the ids of the files are added under ``files``, by the same names."""

    result: dict[str, Any]
    files: Mapping[str, MadeFile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetContext:
    """One attempt at one task."""

    settings: Settings
    task: DatasetTask
    folder: Path
    """Empty, for whatever the work writes; it is removed at the end."""
    blobs: BlobStore
    models: ModelStore
    """Those that the task's project sees."""
    completions: StoredCompletionStore
    """Those of the task's project."""
    findings: FindingsFile
    progress: TaskProgress
    notes: list[str] = field(default_factory=list)
    """What the work says on its way; a result holds them, and so does the end of a task that fails."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The request."""
        return self.task.options

    def input(self, role: str = "file_id") -> TaskInput | None:
        """The stored file that this field of the request named, or None."""
        return next((one for one in self.task.inputs if one.role == role), None)

    def source(self, role: str = "file_id") -> Path:
        """The bytes of an input under the file's own name, whose ending tells what it is.

        Raises:
            LuthierError: the bytes are gone.
        """
        there = self.input(role)
        assert there is not None
        if not self.blobs.exists(there.sha256):
            raise LuthierError(f"The bytes of {there.file_id} are missing.")
        path = self.folder / "in" / role / safe_name(there.filename)
        if not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(self.blobs.path(there.sha256).resolve())
        return path

    def stem(self, fallback: str = "rows") -> str:
        """What names of new files begin with: the input's name without its ending."""
        there = self.input()
        return Path(safe_name(there.filename)).stem if there is not None else fallback

    def bytes_of(self, path: Path, times: int = 1) -> int:
        """Bytes to be read when a file is read so many times."""
        return times * path.stat().st_size


def safe_name(filename: str) -> str:
    """A user's file name as one plain name: no folders, nothing odd, not long; its ending stays."""
    name = _UNSAFE.sub("_", filename.replace("\\", "/").rsplit("/", 1)[-1]).strip(". ")
    if len(name) > _MAX_NAME:
        suffix = Path(name).suffix[:20]
        name = name[: _MAX_NAME - len(suffix)] + suffix
    return name or "file"
