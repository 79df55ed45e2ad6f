"""What must hold for the bytes of any file, however broken: the judge of ``fuzz_data_check.py`` and of its corpus' replay.

What it does: runs check, parse, positions, repair, import, redaction and the detectors over the bytes, and asserts what
``judge`` lists. What it does not: make bytes, or need a fuzzer.
"""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import orjson

from luthier.core.data_faults import RULES
from luthier.core.errors import LuthierError
from luthier.core.examples import LineError, RowFormat, SftExample, SourceLine
from luthier.data.check import check_file, is_error
from luthier.data.detectors import all_detectors
from luthier.data.doctor.row import row_of
from luthier.data.import_rows import import_rows
from luthier.data.parse import parse_object
from luthier.data.read import RawLine, read_lines
from luthier.data.redact import redact
from luthier.data.repair import repair
from luthier.data.stage import DataFailure, collect
from luthier.data.validate import Method, check_row, first_error, format_of, method_of

MAX_LINE_BYTES = 4096
_LONG = 10 * MAX_LINE_BYTES
"""A placeholder may be longer than what it replaces."""
METHODS: tuple[Method | None, ...] = (None, "supervised", "dpo", "reinforcement")
_OF_NUMBERS = {"too_few_examples", "too_many_examples"}
_CONTROL = re.compile(r"[\x00-\x1f]")
_MEMORY = Path("/dev/shm")


def judge(data: bytes) -> None:
    """Judge one file.

    - Nothing is raised but a ``LuthierError``.
    - Every finding has a known code, a line that exists and a column within it; the same file gives the same findings.
    - A file with errors never becomes a data set; one without becomes as many examples as it has rows.
    - A repair leaves no more faulty rows than there were, and repairing twice changes nothing.
    - What was imported has no faulty row.
    - A redacted copy has the same lines, those that were sound are sound still, and redacting it again finds nothing; detectors take
      every sound row.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        folder = Path(name)
        path = folder / "file.jsonl"
        path.write_bytes(data)
        lines = data.split(b"\n")
        for method in METHODS:
            _check(path, lines, method)
        _parse(path)
        _repair(path, folder)
        _redact(path, folder)
        for ending in (".jsonl", ".json", ".csv", ".tsv"):
            _import(data, folder, ending)


def _findings(path: Path, method: Method | None) -> list[LineError]:
    found: list[LineError] = []
    check_file(path, role="training", method=method, max_line_bytes=MAX_LINE_BYTES, on_finding=found.append)
    return found


def _check(path: Path, lines: list[bytes], method: Method | None) -> None:
    found = _findings(path, method)
    for finding in found:
        assert finding.rule in RULES, finding
        assert not _CONTROL.search(finding.message), finding
        if finding.rule in _OF_NUMBERS:
            continue
        assert 1 <= finding.source.line <= len(lines), finding
        assert 1 <= finding.column <= len(lines[finding.source.line - 1]) + 1, finding
    if method is None:
        assert _findings(path, method) == found, "the second check says something else"


def _parse(path: Path) -> None:
    found = _findings(path, "supervised")
    failed = any(is_error(finding) for finding in found)
    try:
        dataset = collect("file-x", path, role="training", max_line_bytes=MAX_LINE_BYTES, sha256="")
    except DataFailure:
        assert failed, "no finding says why the file cannot be used"
    else:
        assert not failed, found
        assert len(dataset.examples) == dataset.num_lines >= 10


def _faulty_rows(path: Path) -> int:
    """Rows that are faulty by themselves, whatever stands around them."""
    return sum(not _is_sound(line) for line in read_lines(path, max_line_bytes=MAX_LINE_BYTES))


def _is_sound(line: RawLine) -> bool:
    row = parse_object(line.data) if line.data is not None else None
    return isinstance(row, dict) and isinstance(
        check_row(row, format_of(row, "supervised"), SourceLine("", line.number), message_code=""), SftExample
    )


def _repair(path: Path, folder: Path) -> None:
    once, twice, diff = folder / "once.jsonl", folder / "twice.jsonl", folder / "file.diff"
    repair(path, once, diff=diff, max_line_bytes=MAX_LINE_BYTES)
    assert _faulty_rows(once) <= _faulty_rows(path), "a repair broke a row"
    assert (diff.stat().st_size > 0) == (once.read_bytes() != path.read_bytes()), "the diff does not tell of the change"
    again = repair(once, twice, diff=None, max_line_bytes=MAX_LINE_BYTES)
    assert twice.read_bytes() == once.read_bytes(), again.changes


def _redact(path: Path, folder: Path) -> None:
    once, twice = folder / "redacted.jsonl", folder / "redacted-twice.jsonl"
    if _refused(lambda: redact(path, once, max_line_bytes=MAX_LINE_BYTES)):
        assert not once.exists(), "what was refused left a file behind"
        return
    before, after = (list(read_lines(file, max_line_bytes=_LONG)) for file in (path, once))
    assert [line.number for line in after] == [line.number for line in before]
    assert all(_is_sound(new) for new, old in zip(after, before, strict=True) if _is_sound(old)), "redacting broke a row"
    assert redact(once, twice, max_line_bytes=_LONG).num_changed == 0
    detectors, _ = all_detectors()
    for line in before:
        row = parse_object(line.data) if line.data is not None else None
        if isinstance(row, dict) and _is_sound(line):
            seen = row_of(row, format_of(row, "supervised"), line.number)
            for detector in detectors:
                detector.see(seen)
    for detector in detectors[:-1]:  # the last one reads a large model to tell languages
        for finding in detector.findings():
            assert finding.code in detector.codes
            assert finding.lines == tuple(sorted(set(finding.lines)))


def _import(data: bytes, folder: Path, ending: str) -> None:
    source, output = folder / f"source{ending}", folder / f"imported{ending}.jsonl"
    source.write_bytes(data)
    notes: list[str] = []
    if _refused(lambda: import_rows([str(source)], output, said={}, skip_bad=True, max_line_bytes=MAX_LINE_BYTES, note=notes.append)):
        assert not output.exists(), "what was refused left a file behind"
        return
    for line in output.read_bytes().splitlines():
        row = orjson.loads(line)
        row_format = format_of(row, method_of(row))
        assert row_format in (RowFormat.CHAT, RowFormat.PREFERENCE), row
        assert first_error(row, row_format, SourceLine("", 1), message_code="") is None, row


def _refused(work: Callable[[], object]) -> bool:
    try:
        work()
    except LuthierError:
        return True
    return False
