"""Bytes of the parts of uploads, one plain file per part, named by its id.

What it does: writes a part durably, reads it in pieces, removes parts. What it does not: know which upload a part belongs
to (``uploads.py`` does); a part's row is committed after ``sync`` returned. Called by ``api`` for parts and their
assembly, by ``worker`` for collecting.
"""

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from luthier.core.errors import StorageFull
from luthier.storage.durability import full_disk_told, sync_folder

_PART_ID = re.compile(r"part_[0-9a-f]{32}")
_PIECE_BYTES = 1024 * 1024


class PartWriter:
    """One part in the making. Leaving the ``with`` block without ``keep`` removes what was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = False
        with full_disk_told():
            self._file = path.open("xb")

    def __enter__(self) -> "PartWriter":
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
            if not self._kept:
                self._path.unlink(missing_ok=True)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            StorageFull: the disk is full.
        """
        with full_disk_told():
            self._file.write(data)

    def sync(self) -> None:
        """Make bytes and name survive power loss.

        Raises:
            StorageFull: the disk is full.
        """
        with full_disk_told():
            self._file.flush()
            os.fsync(self._file.fileno())
        sync_folder(self._path.parent)

    def keep(self) -> None:
        """The part's row exists: the file stays."""
        self._kept = True


class PartFiles:
    """All parts in one folder. Safe to use from many threads and from several processes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def writer(self, part_id: str) -> PartWriter:
        """A writer for a new part; use it in a ``with`` block."""
        if not self._root.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            sync_folder(self._root.parent)
        return PartWriter(self.path(part_id))

    def path(self, part_id: str) -> Path:
        """Where a part lies, whether it exists or not.

        Raises:
            ValueError: the text is not the id of a part.
        """
        if not _PART_ID.fullmatch(part_id):
            raise ValueError(f"Not the id of a part: {part_id!r}")
        return self._root / part_id

    def read(self, part_id: str) -> Iterator[bytes]:
        """A part's bytes, piece by piece.

        Raises:
            FileNotFoundError: the part is gone.
        """
        with self.path(part_id).open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece

    def remove(self, part_ids: Iterable[str]) -> None:
        """Remove parts whose rows are gone; what is missing already does not matter."""
        for part_id in part_ids:
            self.path(part_id).unlink(missing_ok=True)

    def collect(self, keep: Collection[str], min_age_seconds: float) -> int:
        """Remove parts that no row names, and those that a crash left half written.

        Args:
            keep: ids that stay (see ``UploadStore.all_part_ids``).
            min_age_seconds: younger files stay in any case: their row may not be committed yet.

        Returns:
            How many files were removed.
        """
        horizon = time.time() - min_age_seconds
        removed = 0
        for path in self._root.glob("part_*"):
            if path.name in keep:
                continue
            try:
                if path.stat().st_mtime <= horizon:
                    path.unlink()
                    removed += 1
            except FileNotFoundError:
                continue
        return removed
