"""Bytes by their SHA-256, as plain files: ``ab/abcdef...``. Uploads and result files lie here.

What it does: writes atomically and durably (temporary file, fsync, rename, fsync of the folder), removes orphans.
What it does not: know who owns a blob; a row with its hash is committed after ``commit`` returned. Called by ``api``
for uploads, by ``worker`` for result files and for collecting.
"""

import fcntl
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from luthier.core.errors import StorageFull
from luthier.storage.durability import full_disk_told, sync_folder

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WRITEBACK_BYTES = 8 * 1024 * 1024


class BlobWriter:
    """One blob in the making. Leaving the ``with`` block without ``commit`` removes what was written."""

    def __init__(self, store: "BlobStore") -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._size = 0
        with full_disk_told():
            descriptor, name = tempfile.mkstemp(dir=store.temporary_folder())
        self._temporary = Path(name)
        # Without a buffer: pieces are large, and what was written can be read by others at once.
        self._file = os.fdopen(descriptor, "wb", buffering=0)
        self._started_bytes = 0

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with full_disk_told():
                self._file.close()
        except StorageFull:
            # Closing flushes what is buffered; an error that is already under way tells more than this one.
            if error is None:
                raise
        finally:
            self._temporary.unlink(missing_ok=True)

    @property
    def path(self) -> Path:
        """Where the unfinished blob lies; what ``write`` took can be read there until ``commit``."""
        return self._temporary

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            StorageFull: the disk is full.
        """
        with full_disk_told():
            _write_all(self._file, data)
        self._hash.update(data)
        self._size += len(data)
        if self._size - self._started_bytes >= _WRITEBACK_BYTES:
            self._start_writeback()

    def _start_writeback(self) -> None:
        """Let the disk begin with what is new, so that little is left for the sync at the end."""
        if hasattr(os, "posix_fadvise"):
            # On Linux this begins to write these dirty pages, waits for nothing, and keeps them in memory until they are written.
            os.posix_fadvise(self._file.fileno(), self._started_bytes, self._size - self._started_bytes, os.POSIX_FADV_DONTNEED)
        self._started_bytes = self._size

    def commit(self) -> tuple[str, int]:
        """Make the blob durable under its hash.

        Returns:
            The SHA-256 in hexadecimal and the size in bytes.

        Raises:
            StorageFull: the disk is full.
        """
        with full_disk_told():
            os.fsync(self._file.fileno())
            self._file.close()
            sha256 = self._hash.hexdigest()
            self._store.adopt(self._temporary, sha256)
        return sha256, self._size


def _write_all(file: io.FileIO, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


class BlobStore:
    """All blobs below one folder. Safe to use from many threads and from several processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def writer(self) -> BlobWriter:
        """A writer for one new blob; use it in a ``with`` block."""
        return BlobWriter(self)

    def put(self, data: bytes) -> tuple[str, int]:
        """Store bytes at once; returns the SHA-256 and the size in bytes.

        Raises:
            StorageFull: the disk is full.
        """
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def path(self, sha256: str) -> Path:
        """Where a blob lies, whether it exists or not.

        Raises:
            ValueError: the text is not 64 lower-case hexadecimal digits.
        """
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"Not a SHA-256: {sha256!r}")
        return self._root / sha256[:2] / sha256

    def exists(self, sha256: str) -> bool:
        """True when the blob is stored."""
        return self.path(sha256).is_file()

    def collect(self, keep: Collection[str], min_age_seconds: float) -> int:
        """Remove blobs that nobody owns, and temporary files that a crash left behind.

        Args:
            keep: hashes that stay (see ``storage.files.referenced_blobs``).
            min_age_seconds: younger blobs stay in any case: their row may not be committed yet.

        Returns:
            How many files were removed.
        """
        horizon = time.time() - min_age_seconds
        removed = 0
        for path in self._root.glob("*/*"):
            if path.name in keep:
                continue
            # Under the lock: a writer that brings the same bytes again renames before or after, never between.
            with self._renaming():
                try:
                    if path.stat().st_mtime <= horizon:
                        path.unlink()
                        removed += 1
                except FileNotFoundError:
                    continue
        return removed

    def temporary_folder(self) -> Path:
        """The folder of unfinished blobs, on the same file system; made when missing."""
        folder = self._root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def adopt(self, temporary: Path, sha256: str) -> None:
        """Rename a finished, fsynced temporary file to its place and make that durable."""
        final = self.path(sha256)
        if not final.parent.is_dir():
            final.parent.mkdir(exist_ok=True)
            sync_folder(self._root)
        with self._renaming():
            # The time of an upload that took long would look like an orphan's; bytes that are here already become young.
            os.utime(temporary)
            temporary.replace(final)
        sync_folder(final.parent)

    @contextmanager
    def _renaming(self) -> Iterator[None]:
        with (self._root / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
