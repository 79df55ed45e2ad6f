"""Folders that are complete or not there: published by rename, proved by a manifest.

What it does: write, fsync, manifest last, fsync, rename, fsync the parent; verify before use. What it does not: know what is in the
files. Called by ``training`` (resume states), ``deployment`` and ``worker`` (published models).
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from luthier.core.errors import InvalidRequest, StorageFull

MANIFEST_NAME = "manifest.json"
_TEMPORARY = ".tmp-"
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


class CorruptFolder(InvalidRequest):
    """A folder without a manifest, or whose files are not those of its manifest. It must not be used."""


def publish_folder(final: Path, write: Callable[[Path], None], meta: dict[str, Any], *, replace: bool = True) -> str:
    """Make ``final`` appear complete or not at all, also across a crash or a power loss.

    Args:
        final: the folder's name.
        write: fills the temporary folder that it is handed.
        meta: plain values that go into the manifest.
        replace: take the place of what is there already. False, for writers of the same content: what is whole there stays, is
            never absent for a moment, and ours is dropped.

    Returns:
        SHA-256 of the manifest's bytes.

    Raises:
        StorageFull: no room on the disk. The temporary folder is removed.
        OSError: the disk is read-only, or failed otherwise; as well.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=final.name + _TEMPORARY, dir=final.parent))
    replaced: Path | None = None
    try:
        _fill(temporary, write)
        files = {}
        for path in sorted(p for p in temporary.rglob("*") if p.is_file()):
            _sync(path)
            files[path.relative_to(temporary).as_posix()] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        manifest = json.dumps({"files": files, "meta": meta}, indent=1, sort_keys=True).encode()
        (temporary / MANIFEST_NAME).write_bytes(manifest)
        _sync(temporary / MANIFEST_NAME)
        for directory in (*(p for p in temporary.rglob("*") if p.is_dir()), temporary):
            _sync(directory)
        if final.exists():
            if not replace:
                with suppress(CorruptFolder, OSError):  # damaged, or removed in this moment
                    verify_folder(final)
                    return manifest_sha256(final)
            replaced = Path(tempfile.mkdtemp(prefix=final.name + _TEMPORARY, dir=final.parent))
            final.rename(replaced / "replaced")
        temporary.rename(final)
        _sync(final.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk is full; the folder was not written.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
    return hashlib.sha256(manifest).hexdigest()


def _fill(folder: Path, write: Callable[[Path], None]) -> None:
    """``write(folder)``. The safetensors library tells of a full disk by an error of its own, with the system's number in its text."""
    try:
        write(folder)
    except SafetensorError as error:
        number = _SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def verify_folder(folder: Path) -> dict[str, Any]:
    """The manifest (``files`` and ``meta``) of a folder whose every file is as it was written.

    Raises:
        CorruptFolder: the manifest is missing or unreadable; a file is missing, longer, shorter, changed, or not in the manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
        files = {str(name): (int(f["bytes"]), str(f["sha256"])) for name, f in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFolder(f"{folder.name} has no readable manifest; it was never completed.") from error
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {MANIFEST_NAME}
    if present != set(files):
        odd = sorted(present ^ set(files))
        raise CorruptFolder(f"{folder.name} does not hold the files of its manifest: {', '.join(odd)}.")
    for name, (size, sha256) in files.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != size or _sha256(path) != sha256:
            raise CorruptFolder(f"{name} in {folder.name} is not as it was written.")
    return manifest


def manifest_sha256(folder: Path) -> str:
    """What ``publish_folder`` returned for this folder. Raises CorruptFolder without a manifest."""
    try:
        return hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    except OSError as error:
        raise CorruptFolder(f"{folder.name} has no readable manifest; it was never completed.") from error


def folder_bytes(folder: Path) -> int:
    """Total size of the files in a folder, bytes."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def is_temporary(path: Path) -> bool:
    """True for what an interrupted ``publish_folder`` left behind; safe to delete when no writer runs."""
    return _TEMPORARY in path.name


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
