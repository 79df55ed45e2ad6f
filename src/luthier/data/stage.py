"""Stage 1: a stored file becomes a ``Dataset``, or the job fails with every fault of the file counted.

What it does: streams the file once, keeps the first 50 faults and the total, checks the file's hash and the minimum
number of examples. What it does not: tokenize. Called by ``worker/pipelines.py``.
"""

import hashlib
from pathlib import Path
from typing import Literal

from luthier.core.errors import JobFailure
from luthier.core.examples import Dataset, LineError, RowFormat, SftExample, SourceLine
from luthier.data.read import RawLine, read_lines
from luthier.data.validate import FORMAT_CODE, check_row, format_of, parse_row

MIN_TRAINING_EXAMPLES = 10
MAX_KEPT_FAULTS = 50
FileRole = Literal["training", "validation"]


class DataFailure(JobFailure):
    """A file cannot be used. ``job.error`` tells the first fault; ``faults`` holds the first 50 of ``num_faults``."""

    def __init__(self, message: str, *, code: str, param: str, faults: tuple[LineError, ...] = (), num_faults: int = 0) -> None:
        super().__init__(message, code=code, param=param)
        self.faults = faults
        self.num_faults = num_faults


class _Collector:
    """Takes lines one by one; memory stays flat once the first fault is found, because no example is needed any more."""

    def __init__(self, file_id: str, message_code: str, max_line_bytes: int) -> None:
        self._file_id = file_id
        self._message_code = message_code
        self._max_line_bytes = max_line_bytes
        self.row_format: RowFormat | None = None
        self.examples: list[SftExample] = []
        self.faults: list[LineError] = []
        self.num_faults = 0
        self.num_lines = 0

    def take(self, line: RawLine) -> None:
        """Check one line."""
        self.num_lines += 1
        outcome = self._check(line)
        if isinstance(outcome, SftExample):
            if not self.num_faults:
                self.examples.append(outcome)
            return
        self.num_faults += 1
        self.examples.clear()
        if len(self.faults) < MAX_KEPT_FAULTS:
            self.faults.append(outcome)

    def _check(self, line: RawLine) -> SftExample | LineError:
        source = SourceLine(self._file_id, line.number)
        if line.data is None:
            message = f"Example {line.number} is longer than the limit of {self._max_line_bytes} bytes for one line."
            return LineError(source=source, code=FORMAT_CODE, message=message)
        row = parse_row(line.data, source)
        if isinstance(row, LineError):
            return row
        if self.row_format is None:
            self.row_format = format_of(row)
        return check_row(row, self.row_format, source, message_code=self._message_code)


def collect(file_id: str, path: Path, *, role: FileRole, max_line_bytes: int, sha256: str) -> Dataset:
    """Read and check a whole file.

    Args:
        file_id: the file's public id, kept in every ``SourceLine``.
        path: where the bytes lie.
        role: ``training`` files need 10 examples, ``validation`` files one.
        max_line_bytes: longest line.
        sha256: what the bytes must hash to; an empty string takes them as they are.

    Raises:
        DataFailure: in OpenAI's codes and wording; ``faults`` lists what is wrong, line by line.
    """
    digest = hashlib.sha256()
    collector = _Collector(file_id, f"invalid_{role}_file", max_line_bytes)
    for line in read_lines(path, max_line_bytes=max_line_bytes, watch=digest.update):
        collector.take(line)
    fingerprint = digest.hexdigest()
    if sha256 and fingerprint != sha256:
        raise DataFailure(
            f"The stored {role} file no longer has the bytes that were uploaded (its checksum differs). Upload it again.",
            code=f"invalid_{role}_file",
            param=f"{role}_file",
        )
    if collector.num_faults:
        raise _failure(role, collector)
    least = MIN_TRAINING_EXAMPLES if role == "training" else 1
    if collector.row_format is None or len(collector.examples) < least:
        raise DataFailure(
            f"{role.capitalize()} file has {len(collector.examples)} example(s), but must have at least {least} example{'s'[: least > 1]}",
            code="invalid_n_examples",
            param=f"{role}_file",
        )
    return Dataset(
        file_id=file_id,
        row_format=collector.row_format,
        examples=tuple(collector.examples),
        num_lines=collector.num_lines,
        fingerprint=fingerprint,
    )


def _failure(role: FileRole, collector: _Collector) -> DataFailure:
    first = collector.faults[0]
    if first.code == FORMAT_CODE:
        lead = f"The job failed due to a file format error in the {role} file."
    else:
        lead = f"The job failed due to an invalid {role} file."
    return DataFailure(
        f"{lead} Invalid file format. {first.message}",
        code=first.code,
        param=f"{role}_file",
        faults=tuple(collector.faults),
        num_faults=collector.num_faults,
    )
