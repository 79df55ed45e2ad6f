"""Tokens of a file, written once and mapped by every job that needs the same ones.

What it does: keeps one folder per (file, tokenizer and template, options) below a root, complete or not there (``models/checkpoint.py``);
opens it without reading it into memory; removes what was used least recently. What it does not: tokenize (``stage.py`` hands the rows),
or decide what a key is made of (``worker/token_cache.py``). Called by ``worker``.

Jobs need no agreement: each writes into a folder of its own, maps what it wrote and renames it. Where two do so at once, the first rename
stands. A folder that is removed while a job maps it stays readable for that job.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import InvalidRequest, StorageFull
from luthier.core.tokens import SPAN_ROLES, TokenizedExample
from luthier.models.checkpoint import MANIFEST_NAME, folder_bytes, is_temporary, publish_folder, verify_folder
from luthier.preprocessing.table import Column, TableWriter, TokenTable, column_types

FORMAT_VERSION = 1
"""Of the columns; part of every key."""
RESERVE_BYTES = 512 * 1024 * 1024
"""A cache is not written when the disk would have less left."""
_ABANDONED_SECONDS = 3600.0
_KEY_CHARACTERS = 24
_KIND = "tokens"
_NAME_LOST = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
"""Of a rename: another job gave its folder the name in the same moment, or took one away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """What the tokens depend on: the same key, the same tokens."""

    sha256: str
    """Of the file's bytes."""
    options: Mapping[str, Any]
    """Everything else, as plain values: tokenizer, template, row format, longest length, versions."""

    @property
    def name(self) -> str:
        """Name of the folder; begins with the file's hash, so that what belongs to a deleted file can be told."""
        text = json.dumps({"format": FORMAT_VERSION, "file": self.sha256, "options": dict(self.options)}, sort_keys=True)
        return f"{self.sha256}-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARACTERS]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A table on the disk and the plain values that were kept beside it."""

    table: TokenTable
    notes: dict[str, Any]


class TokenCache:
    """All tables below one folder. Safe to use from several processes."""

    def __init__(self, root: Path, *, max_bytes: int, free_bytes: Callable[[Path], int] | None = None) -> None:
        """``max_bytes``: what all tables may take together, 0 for no cache at all. ``free_bytes`` tells the room on a folder's disk."""
        self._root = root
        self._max_bytes = max_bytes
        self._free_bytes = free_bytes or (lambda folder: shutil.disk_usage(folder).free)

    @property
    def is_on(self) -> bool:
        """False when nothing may be kept."""
        return self._max_bytes > 0

    def read(self, key: CacheKey, file_id: str) -> Stored | None:
        """The table of a key, its columns mapped; None when there is none that is whole and of this key.

        Every byte is compared with the manifest's hashes first (about 1 GB/s): a damaged table is made anew, not trained on.

        Args:
            key: what is wanted.
            file_id: the name by which this job knows the file; goes into every ``SourceLine``.
        """
        folder = self._root / key.name
        try:
            meta = verify_folder(folder)["meta"]
            if meta["kind"] != _KIND or meta["format"] != FORMAT_VERSION or meta["options"] != dict(key.options):
                return None
            types = column_types(int(meta["vocab_size"]))
            columns = _mapped_columns(folder, types)
            if len(columns["ends"]) != meta["rows"]:
                return None
            os.utime(folder / MANIFEST_NAME)  # used now: see ``trim``
            return Stored(table=TokenTable(file_id, columns, meta["roles"]), notes=meta["notes"])
        except (InvalidRequest, OSError, ValueError, KeyError, TypeError):
            return None

    def write(
        self,
        key: CacheKey,
        chunks: Iterable[Sequence[TokenizedExample]],
        notes: Callable[[], Mapping[str, Any]],
        *,
        vocab_size: int,
        file_id: str,
    ) -> Stored:
        """Write a table as its rows come, and open what was written: it is this job's even where other jobs write or remove the same.

        Args:
            key: what it is.
            chunks: the examples; what iterating raises goes through, and nothing is kept.
            notes: plain values to keep beside the table, asked for when the last row is written.
            vocab_size: the model's: every id is smaller.
            file_id: as in ``read``.

        Raises:
            StorageFull: no room, or too little left. Nothing is kept.
            OSError: the folder cannot be written.
        """
        types = column_types(vocab_size)
        meta: dict[str, Any] = {"kind": _KIND, "format": FORMAT_VERSION, "options": dict(key.options), "vocab_size": vocab_size}
        columns: dict[str, np.ndarray] = {}

        def fill(folder: Path) -> None:
            with ExitStack() as files:
                opened = {name: files.enter_context((folder / name).open("wb")) for name in types}
                receivers: dict[str, Column] = {name: _appending(file.write) for name, file in opened.items()}
                writer = TableWriter(receivers, types)
                for chunk in chunks:
                    writer.add(chunk)
                    self._keep_reserve()
            meta.update(rows=writer.num_rows, roles=list(SPAN_ROLES), notes=dict(notes()))
            columns.update(_mapped_columns(folder, types))

        try:
            publish_folder(self._root / key.name, fill, meta, replace=False)
        except OSError as error:
            if error.errno not in _NAME_LOST or not columns:
                raise
        self.trim(spare=key.name)
        return Stored(table=TokenTable(file_id, columns, meta["roles"]), notes=meta["notes"])

    def trim(self, *, files: Collection[str] | None = None, spare: str = "") -> int:
        """Remove tables of other files, then the least recently used ones until the rest fits; and what a crash left behind.

        Args:
            files: hashes of the files whose tables may stay; None for all.
            spare: name of a folder that stays in any case.

        Returns:
            How many folders were removed.
        """
        kept: list[tuple[float, int, Path]] = []
        removed = 0
        for folder in self._folders():
            try:
                manifest = folder / MANIFEST_NAME
                if is_temporary(folder):
                    gone = time.time() - max(p.stat().st_mtime for p in (folder, *folder.iterdir())) > _ABANDONED_SECONDS
                else:
                    gone = not manifest.is_file() or (files is not None and folder.name.partition("-")[0] not in files)
                if gone and folder.name != spare:
                    shutil.rmtree(folder)
                    removed += 1
                elif not is_temporary(folder):
                    kept.append((manifest.stat().st_mtime, folder_bytes(folder), folder))
            except FileNotFoundError:  # another process removed it, or renamed it into place, meanwhile
                continue
        total = sum(size for _, size, _ in kept)
        for _, size, folder in sorted(kept):
            if total <= self._max_bytes:
                break
            if folder.name == spare:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            total -= size
            removed += 1
        return removed

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []

    def _keep_reserve(self) -> None:
        if self._free_bytes(self._root) < RESERVE_BYTES:
            raise StorageFull(f"Less than {RESERVE_BYTES // (1024 * 1024)} MiB are left on the disk; tokens are not kept.")


def _appending(write: Callable[[bytes], int]) -> Column:
    def append(values: np.ndarray) -> None:
        write(values.tobytes())

    return append


def _mapped_columns(folder: Path, types: Mapping[str, np.dtype]) -> dict[str, np.ndarray]:
    return {name: _mapped(folder / name, kind) for name, kind in types.items()}


def _mapped(path: Path, kind: np.dtype) -> np.ndarray:
    """A column as a read-only map; an empty file cannot be mapped."""
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=kind)
    return np.memmap(path, dtype=kind, mode="r")
