"""The exit codes of every command, in one table, and which error ends with which.

What it does: names the codes; says what an error of ours or a finished job comes to, and which command helps next. What it
does not: print or exit (``cli/main.py``). ``docs/guides/command-line.md`` shows the same table (a test compares).
"""

import re
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from luthier.core.errors import AuthenticationFailed, InvalidRequest, LuthierError, NotFound, PermissionRefused, Unavailable


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    DATA_INVALID = 5
    UNREACHABLE = 6
    CANCELLED = 7
    DETACHED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.DONE: "Done. Of a wait: the job succeeded.",
    ExitCode.FAILED: "Failed: the job, the server, or this machine; the line on standard error says which.",
    ExitCode.USAGE: "The command was written wrongly: an unknown option, a missing file, a setting that does not fit.",
    ExitCode.AUTH: "No key, a wrong key, or one that may not do this.",
    ExitCode.NOT_FOUND: "No such file, job or model; or this server does not have that endpoint.",
    ExitCode.DATA_INVALID: "The data or a value in it is refused: by the check here, by the server, or by the job that read the file.",
    ExitCode.UNREACHABLE: "No server answers, or it cannot answer now.",
    ExitCode.CANCELLED: "The job that was waited for was cancelled.",
    ExitCode.DETACHED: "Ctrl-C. A job that was waited for goes on.",
}


class InvalidData(InvalidRequest):
    """What was sent, or was about to be sent, is refused for what it holds."""


class JobEnded(LuthierError):
    """A job that was waited for did not succeed; ``exit_code`` says how it ended."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class WaitDetached(LuthierError):
    """The user stopped waiting; the job goes on."""


def exit_code_of(error: LuthierError) -> ExitCode:
    """The code with which a command ends that raised ``error``."""
    if isinstance(error, JobEnded):
        return error.exit_code
    for kinds, code in _BY_CLASS:
        if isinstance(error, kinds):
            return code
    return ExitCode.FAILED


_BY_CLASS: tuple[tuple[tuple[type[LuthierError], ...], ExitCode], ...] = (
    ((WaitDetached,), ExitCode.DETACHED),
    ((InvalidData,), ExitCode.DATA_INVALID),
    ((InvalidRequest,), ExitCode.USAGE),
    ((AuthenticationFailed, PermissionRefused), ExitCode.AUTH),
    ((NotFound,), ExitCode.NOT_FOUND),
    ((Unavailable,), ExitCode.UNREACHABLE),
)


def exit_code_of_job(job: Mapping[str, Any]) -> ExitCode:
    """The code of a wait for ``job``, which is final. A job that failed over its files' rows ends as invalid data."""
    if job["status"] == "succeeded":
        return ExitCode.DONE
    if job["status"] == "cancelled":
        return ExitCode.CANCELLED
    param = (job.get("error") or {}).get("param")
    return ExitCode.DATA_INVALID if param in ("training_file", "validation_file") else ExitCode.FAILED


_NAMES_A_COMMAND = re.compile(r"\bluthier [a-z]")
_LISTS = (
    (re.compile(r"No such File"), "luthier files list"),
    (re.compile(r"No such API key"), "luthier keys list"),
    (re.compile(r"No batch found"), "luthier batches list"),
    (re.compile(r"No such dataset task"), "luthier data tasks"),
    (re.compile(r"No such project"), "luthier projects list"),
    (re.compile(r"fine tune"), "luthier jobs list"),
    (re.compile(r"No such alias"), "luthier aliases list"),
    (re.compile(r"[Mm]odel"), "luthier models list"),
)


def next_command(error: LuthierError, command: str) -> str | None:
    """What to try after ``error`` in ``command`` (its full name); None where the sentence says it already."""
    if _NAMES_A_COMMAND.search(error.message):
        return None
    code = exit_code_of(error)
    if code is ExitCode.NOT_FOUND:
        return next((found for pattern, found in _LISTS if pattern.search(error.message)), "luthier doctor")
    if code in (ExitCode.USAGE, ExitCode.DATA_INVALID):
        return f"{command} --help"
    return "luthier doctor"
