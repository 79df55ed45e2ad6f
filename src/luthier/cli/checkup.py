"""What ``luthier doctor`` looks at: the server over HTTP, and the data directory when it lies on this machine.

What it does: one finding for each check, with what to do about it. What it does not: print, or change anything: no probe
file is written. Called by ``cli/doctor.py``.
"""

import importlib.metadata
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from luthier import __version__
from luthier.cli.client import Server
from luthier.cli.exit_codes import ExitCode, exit_code_of
from luthier.cli.options import Place
from luthier.cli.render.text import size
from luthier.cli.settings_file import read_settings
from luthier.core.errors import LuthierError
from luthier.core.settings import Settings

if TYPE_CHECKING:
    import httpx2

_SECONDS = 5.0
_LOW_BYTES = 2_000_000_000
_FULL_BYTES = 200_000_000
_PACKAGES = ("openai", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome."""

    check: str
    level: Literal["ok", "warn", "error"]
    message: str
    following: str | None = None
    """The next command to try."""
    code: ExitCode = ExitCode.DONE
    """What the check alone would end the command with."""


def examine(place: Place) -> list[Finding]:
    """Every check, in the order in which one would mend things."""
    findings = [_versions()]
    try:
        settings = read_settings(data_dir=place.data_dir)
        server = place.server()
    except LuthierError as error:
        code = exit_code_of(error)
        check, following = ("key", "luthier serve") if code is ExitCode.AUTH else ("settings", "luthier doctor --help")
        return [*findings, Finding(check, "error", error.message, following, code)]
    return [*findings, *_server(server), *_directory(settings)]


def _versions() -> Finding:
    parts = [f"luthier {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            parts.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{package} missing")
    return Finding("versions", "ok", ", ".join(parts))


def _server(server: Server) -> Iterator[Finding]:
    import httpx2

    with httpx2.Client(base_url=server.url, timeout=_SECONDS) as http:
        try:
            health = http.get("/healthz")
            models = http.get("/v1/models", headers={"authorization": f"Bearer {server.key}"})
            ready = http.get("/readyz")
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            yield Finding("server", "error", f"{server.url} does not answer: {reason}", "luthier serve", ExitCode.UNREACHABLE)
            return
    if health.status_code != 200:
        message = f"{server.url} answers {health.status_code} to /healthz: it is not Luthier, or does not take this address."
        yield Finding("server", "error", message, "luthier serve", ExitCode.UNREACHABLE)
        return
    yield Finding("server", "ok", f"{server.url} answers")
    yield _key(models)
    yield from _readiness(ready)


def _key(answer: "httpx2.Response") -> Finding:
    if answer.status_code == 200:
        count = len(answer.json().get("data", []))
        return Finding("key", "ok", f"accepted; {count} model{'s' if count != 1 else ''} answer{'' if count != 1 else 's'}")
    if answer.status_code in (401, 403):
        message = "The key is refused. The right one stands in the file api_key of the server's data directory."
        return Finding("key", "error", message, "luthier doctor --data-dir DIR", ExitCode.AUTH)
    return Finding("key", "error", f"/v1/models answers {answer.status_code}.", code=ExitCode.FAILED)


def _readiness(answer: "httpx2.Response") -> Iterator[Finding]:
    if answer.status_code == 200:
        yield Finding("ready", "ok", "takes jobs and answers chats")
        return
    try:
        reasons = answer.json().get("reasons") or {}
    except (ValueError, AttributeError):
        reasons = {}
    for name, reason in (reasons or {"readyz": f"/readyz answers {answer.status_code}."}).items():
        yield Finding(f"ready: {name}", "error", str(reason), code=ExitCode.FAILED)


def _directory(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield Finding("data directory", "ok", f"{folder} is not on this machine; nothing to check")
        return
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        message = f"{folder.resolve()} cannot be read and written by this user."
        yield Finding("data directory", "error", message, "luthier serve --data-dir DIR", ExitCode.FAILED)
        return
    yield Finding("data directory", "ok", str(folder.resolve()))
    yield from _permissions(settings.api_key_file)
    free = shutil.disk_usage(folder).free
    if free < _FULL_BYTES:
        yield Finding("disk", "error", f"only {size(free)} free: jobs cannot save their states.", "luthier files list", ExitCode.FAILED)
    elif free < _LOW_BYTES:
        yield Finding("disk", "warn", f"{size(free)} free", "luthier files list")
    else:
        yield Finding("disk", "ok", f"{size(free)} free")


def _permissions(path: Path) -> Iterator[Finding]:
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding("key file", "warn", f"Others may read {path}.", f"chmod 600 {path}")
