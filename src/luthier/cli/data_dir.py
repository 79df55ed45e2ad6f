"""The data directory at start: made, locked for one server, and given its key.

What it does: clear sentences for a directory that cannot be used. What it does not: open the database. Called by
``serve.py``.
"""

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import IO

from luthier.core.errors import LuthierError
from luthier.core.ids import new_api_key
from luthier.core.settings import Settings


class CannotStart(LuthierError):
    """The server cannot start; the message says why and what to do."""


def prepare(data_dir: Path) -> None:
    """Make the directory (mode 0700) and make sure that it can be written.

    Raises:
        CannotStart: it cannot be made or written.
    """
    probe = data_dir / f".write-probe-{os.getpid()}"
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotStart(f"The data directory {data_dir} cannot be written ({reason}). Choose another one with --data-dir.") from error


def lock(data_dir: Path) -> IO[str]:
    """Take the directory's exclusive lock; it is held as long as the returned file stays open, and never becomes stale.

    Raises:
        CannotStart: another server holds it.
    """
    handle = (data_dir / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        holder = handle.read().strip() or "unknown"
        handle.close()
        raise CannotStart(
            f"Another Luthier server already uses the data directory {data_dir} (holder: {holder}). "
            "Stop it, or choose another directory with --data-dir."
        ) from error
    handle.seek(0)
    handle.truncate()
    handle.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    handle.flush()
    return handle


def api_key(settings: Settings) -> tuple[str, bool]:
    """The directory's API key, and whether it was made just now. The file holds the key alone, mode 0600."""
    path = settings.api_key_file
    if path.exists():
        key = path.read_text(encoding="ascii").strip()
        if key:
            return key, False
    key = new_api_key()
    temporary = path.with_name(f".api_key-{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return key, True


def announce(settings: Settings, url: str) -> Path:
    """Write ``server.json`` so that the other commands find this server; the caller removes it at the end."""
    path = settings.data_dir / "server.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    temporary.replace(path)
    return path
