"""Fetches the files of a model from the Hugging Face hub, so that an interruption costs nothing that has come.

What it does: one file after another into a folder; a file under way is ``NAME.part`` and is gone on with at its end, in this run and in
the next one; a whole file is compared with the hub's size and hash before it gets its name. What it does not: choose files
(``hub_model.py``). Called by ``add_base.py``.
"""

import errno
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.worker.hub_model import DOWNLOADS_ANEW, HubFile, HubModel, hub_errors, hub_library, transport_errors

_ATTEMPTS = 5
"""In a row, none of which brought anything."""
_SECONDS = 30.0
Advance = Callable[[int], None]
"""Is told how many bytes have come (or, negative, had to be thrown away)."""


def remaining_bytes(model: HubModel, folder: Path) -> int:
    """What is still to come."""
    return model.num_bytes - sum(present_bytes(file, folder) for file in model.files)


def present_bytes(file: HubFile, folder: Path) -> int:
    """What of a file is there, whole or in part."""
    for path in (folder / file.name, _part(file, folder)):
        if path.is_file():
            return min(path.stat().st_size, file.num_bytes)
    return 0


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder for one process; it is made.

    Raises:
        InvalidRequest: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidRequest("Another command is fetching this model now. Wait for it.") from error
        yield


def fetch(model: HubModel, file: HubFile, folder: Path, advance: Advance, *, pause: float = 1.0) -> Path:
    """Bring one file into the folder; returns its path.

    Args:
        model: its repository and commit.
        file: which.
        folder: exists.
        advance: see ``Advance``; what was there before is not told.
        pause: seconds before the next attempt after a failure.

    Raises:
        Unavailable: the network failed several times in a row without a byte, or the file arrived damaged; what came is kept.
        LuthierError: as ``hub_errors``.
    """
    path, part = folder / file.name, _part(file, folder)
    if path.is_file() and path.stat().st_size == file.num_bytes:
        return path
    failures = 0
    with hub_errors(model.repo):
        while not part.is_file() or part.stat().st_size != file.num_bytes:
            before = part.stat().st_size if part.is_file() else 0
            reason: BaseException = Unavailable(f"The hub sends nothing of {file.name}. {DOWNLOADS_ANEW}")
            try:
                _receive(model, file, part, before, advance)
            except transport_errors() as error:
                # An answer with a status is the hub's last word, and what the disk refuses it refuses again.
                if getattr(error, "response", None) is not None or getattr(error, "filename", None) or _is_full(error):
                    raise
                reason = error
            after = part.stat().st_size if part.is_file() else 0
            failures = 0 if after > before else failures + 1
            if failures >= _ATTEMPTS:
                raise reason
            if after != file.num_bytes:
                time.sleep(pause)
    if file.sha256 is not None and _sha256(part) != file.sha256:
        part.unlink()
        raise Unavailable(f"{file.name} of {model.repo} arrived damaged and was thrown away. {DOWNLOADS_ANEW}")
    return part.rename(path)


def _receive(model: HubModel, file: HubFile, part: Path, have: int, advance: Advance) -> None:
    """One request, from where the part ends."""
    hub = hub_library()
    url = hub.hf_hub_url(model.repo, file.name, revision=model.commit)
    headers = {**hub.utils.build_hf_headers(library_name="luthier"), "Accept-Encoding": "identity"}
    if have > file.num_bytes:
        part.unlink()
        have = 0
    if have:
        headers["Range"] = f"bytes={have}-"
    with (
        part.open("ab") as out,
        hub.get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=_SECONDS) as response,
    ):
        hub.hf_raise_for_status(response)
        if have and not _goes_on(response, have):
            advance(-have)
            out.truncate(0)
        _write(response, out, file, advance)


def _is_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _goes_on(response: Any, have: int) -> bool:
    return response.status_code == 206 and str(response.headers.get("content-range", "")).startswith(f"bytes {have}-")


def _write(response: Any, out: BinaryIO, file: HubFile, advance: Advance) -> None:
    for chunk in response.iter_bytes():
        if out.tell() + len(chunk) > file.num_bytes:
            out.truncate(0)
            raise Unavailable(f"{file.name} is longer than the hub's list says. {DOWNLOADS_ANEW}")
        out.write(chunk)
        advance(len(chunk))
        # Within reach of the next run, whatever ends this one.
        out.flush()


def _part(file: HubFile, folder: Path) -> Path:
    return folder / f"{file.name}.part"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
