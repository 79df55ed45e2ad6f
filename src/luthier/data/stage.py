"""Stage 1: a stored file becomes a ``Dataset``, or the job fails with every fault of the file counted.

What it does: streams the file once through the same check as ``luthier data check``, keeps the first 50 faults and the total,
checks the file's hash and the number of examples. What it does not: judge rows (``check.py``), hold them in memory
(``file_examples.py``) or tokenize. Called by ``worker/pipelines.py``.
"""

import hashlib
from pathlib import Path

from luthier.core.data_report import job_error
from luthier.core.errors import JobFailure
from luthier.core.examples import Dataset, LineError
from luthier.data.check import LEAST_ROWS, FileRole, LineChecker, is_error, rule_of_numbers
from luthier.data.file_examples import FileExamples, RowPlaces
from luthier.data.read import RawLine, read_lines
from luthier.data.validate import Method

MIN_TRAINING_EXAMPLES = LEAST_ROWS["training"]
MAX_KEPT_FAULTS = 50


class DataFailure(JobFailure):
    """A file cannot be used. ``job.error`` tells the first fault; ``faults`` holds the first 50 of ``num_faults``."""

    def __init__(self, message: str, *, code: str, param: str, faults: tuple[LineError, ...] = (), num_faults: int = 0) -> None:
        super().__init__(message, code=code, param=param)
        self.faults = faults
        self.num_faults = num_faults


class _Collector:
    """Takes lines one by one and keeps where the sound ones stand, not what they say."""

    def __init__(self, checker: LineChecker) -> None:
        self._checker = checker
        self._seen = self._last_piece = 0
        self.places = RowPlaces()
        self.faults: list[LineError] = []
        self.num_faults = 0
        self.num_lines = 0

    def watch(self, piece: bytes) -> None:
        """Count the file's bytes; a line that is not too long comes as one piece."""
        self._seen += len(piece)
        self._last_piece = len(piece)

    def take(self, line: RawLine) -> None:
        """Check one line; lines after one that condemns the file are only hashed."""
        self.num_lines += 1
        if self._checker.hopeless:
            return
        row, findings = self._checker.take(line)
        faults = [finding for finding in findings if is_error(finding)]
        if faults:
            self.num_faults += len(faults)
            self.places.clear()
            self.faults += faults[: MAX_KEPT_FAULTS - len(self.faults)]
        elif row is not None and not self.num_faults:
            self.places.add(self._seen - self._last_piece, self._last_piece, line.number)


def collect(file_id: str, path: Path, *, role: FileRole, max_line_bytes: int, sha256: str, method: Method = "supervised") -> Dataset:
    """Read and check a whole file.

    Args:
        file_id: the file's public id, kept in every ``SourceLine``.
        path: where the bytes lie.
        role: ``training`` files need 10 examples, ``validation`` files one.
        max_line_bytes: longest line.
        sha256: what the bytes must hash to; an empty string takes them as they are.
        method: what the rows are for.

    Raises:
        DataFailure: in OpenAI's codes and wording; ``faults`` lists what is wrong, line by line.
    """
    digest = hashlib.sha256()
    checker = LineChecker(file_id, path, role=role, method=method, max_line_bytes=max_line_bytes)
    collector = _Collector(checker)

    def watch(piece: bytes) -> None:
        digest.update(piece)
        collector.watch(piece)

    for line in read_lines(path, max_line_bytes=max_line_bytes, watch=watch):
        collector.take(line)
    fingerprint = digest.hexdigest()
    if sha256 and fingerprint != sha256:
        raise DataFailure(
            f"The stored {role} file no longer has the bytes that were uploaded (its checksum differs). Upload it again.",
            code=f"invalid_{role}_file",
            param=f"{role}_file",
        )
    if collector.num_faults:
        error = job_error(collector.faults[0], role)
        raise DataFailure(**error, faults=tuple(collector.faults), num_faults=collector.num_faults)
    number = rule_of_numbers(role, checker.method, len(collector.places.lines))
    if number is not None:
        raise DataFailure(number[1], code="invalid_n_examples", param=f"{role}_file")
    assert checker.row_format is not None
    return Dataset(
        file_id=file_id,
        row_format=checker.row_format,
        examples=FileExamples(file_id, path, checker.row_format, collector.places),
        num_lines=collector.num_lines,
        fingerprint=fingerprint,
    )
