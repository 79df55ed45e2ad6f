"""Checks a whole file: every fault with line, column, path and code, in one pass and flat memory.

What it does: what holds for lines in their order (formats, blank lines, marks, numbers of rows) around the rules for one row.
A sound row costs one parse and one look; columns are searched only for rows with a finding. What it does not: make examples
or decide a job's fate (``stage.py``), or print (``cli/``). Called by ``stage.py``, ``chosen_lines.py`` and
``worker/check_data.py``.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import orjson

from luthier.core.archives import HEAD_BYTES
from luthier.core.data_faults import RULES, Severity
from luthier.core.data_report import DataReport
from luthier.core.examples import LineError, RowFormat, SourceLine
from luthier.data.finding import Finding, quoted
from luthier.data.parse import fault_of_head, parse_object
from luthier.data.positions import column_of, repeated_keys
from luthier.data.read import UTF8_BOM, RawLine, read_lines
from luthier.data.statistics import Counts
from luthier.data.validate import Method, findings_of, format_of, line_error, method_of

FileRole = Literal["training", "validation"]
LEAST_ROWS = {"training": 10, "validation": 1}
MOST_REINFORCEMENT_ROWS = {"training": 50_000, "validation": 1_000}
_MAX_REPEATED_KEYS = 10
_PROGRESS_BYTES = 1 << 20


class LineChecker:
    """Judges the lines of one file in their order."""

    def __init__(self, file_id: str, path: Path, *, role: FileRole, method: Method | None, max_line_bytes: int) -> None:
        self._file_id = file_id
        self._message_code = f"invalid_{role}_file"
        self._max_line_bytes = max_line_bytes
        with path.open("rb") as file:
            self._head = file.read(HEAD_BYTES)
        self._last_line = 0
        self.method: Method | None = method
        self.row_format: RowFormat | None = None
        self.hopeless = False
        """True once a line says that the whole file is of another kind: the lines after it are not judged."""

    def take(self, line: RawLine) -> tuple[dict[str, Any] | None, list[LineError]]:
        """The row of a line when it parses, and every finding of the line. A row with findings that are warnings only is sound."""
        before = [] if line.number == self._last_line + 1 else [self._blank()]
        first, self._last_line = self._last_line == 0, line.number
        if first:
            before += self._first(line)
            if self.hopeless:
                return None, before
        if line.data is None:
            text = f" is longer than the limit of {self._max_line_bytes} bytes for one line."
            return None, [*before, self._error(line.number, Finding("line_too_long", text))]
        row = parse_object(line.data)
        if isinstance(row, Finding):
            return None, [*before, self._error(line.number, row)]
        if self.row_format is None:
            self.method = self.method or method_of(row)
            self.row_format = format_of(row, self.method)
        found = findings_of(row, self.row_format)
        if found or _may_repeat_keys(line.data, row):
            before += self._located(line.data, line.number, found)
        return row, before

    def skip_to(self, number: int) -> None:
        """Pass over the lines before ``number`` unseen; called after the first line was taken."""
        self._last_line = number - 1

    def _first(self, line: RawLine) -> list[LineError]:
        """What only the first line can have: a mark before it, or a sign that the file is of another kind."""
        whole, text = fault_of_head(self._head), (line.data or b"").strip()
        if whole is None and text == b"{":
            whole = Finding("pretty_printed", " is a brace alone; each object must stand on one line.")
        elif whole is None and text.startswith(b"["):
            whole = Finding("json_array_file", " is not a JSON object but begins a list; each line must be one object.")
        if whole is not None:
            self.hopeless = True
            return [self._error(line.number, whole)]
        if self._head.startswith(UTF8_BOM):
            return [self._error(line.number, Finding("byte_order_mark", " begins with a byte order mark, which is skipped."))]
        return []

    def _blank(self) -> LineError:
        return self._error(self._last_line + 1, Finding("blank_line", " is empty; only the end of a file may have empty lines."))

    def _located(self, data: bytes, line: int, found: list[Finding]) -> list[LineError]:
        errors = [self._error(line, finding, finding.column or column_of(data, finding.path)) for finding in found]
        for number, (path, column) in enumerate(repeated_keys(data)):
            if number == _MAX_REPEATED_KEYS:
                break
            text = f" has the key {quoted(str(path[-1]))} twice in one object; the last one counts."
            errors.append(self._error(line, Finding("duplicate_key", text, path), column))
        return errors

    def _error(self, line: int, finding: Finding, column: int = 0) -> LineError:
        source = SourceLine(self._file_id, line)
        return line_error(finding, source, message_code=self._message_code, column=column or finding.column or 1)


def is_error(finding: LineError) -> bool:
    """Whether a job fails over it."""
    return RULES[finding.rule].severity is Severity.ERROR


def check_file(
    path: Path,
    *,
    role: FileRole,
    method: Method | None,
    max_line_bytes: int,
    on_finding: Callable[[LineError], None],
    on_progress: Callable[[int], None] = lambda _: None,
) -> DataReport:
    """Check a whole file.

    Args:
        path: the file.
        role: ``training`` or ``validation``: how many rows it needs.
        method: what the rows are for; None takes it from the first row (preferences, or else supervised).
        max_line_bytes: longest line.
        on_finding: is given every fault and warning, in the file's order; keep what is needed.
        on_progress: is given the number of bytes read so far, about once a megabyte.

    Raises:
        OSError: the file cannot be read.
    """
    checker = LineChecker(path.name, path, role=role, method=method, max_line_bytes=max_line_bytes)
    report, counts = DataReport(file=path.name, bytes=path.stat().st_size, role=role), Counts()

    def tell(finding: LineError) -> None:
        report.add(finding)
        on_finding(finding)

    for line, row, errors in _checked(checker, path, max_line_bytes, report, on_progress):
        for error in errors:
            tell(error)
        if row is None or (errors and any(is_error(error) and error.rule != "blank_line" for error in errors)):
            report.num_faulty_rows += 1
        elif checker.row_format is not None:
            assert line.data is not None
            counts.add(row, checker.row_format, line.number, len(line.data))
    report.method, report.format = checker.method, None if checker.row_format is None else checker.row_format.value
    report.counts = counts.to_dict()
    if not report.num_faulty_rows and not checker.hopeless:
        number = rule_of_numbers(role, checker.method, counts.rows)
        if number is not None:
            tell(LineError(source=SourceLine(path.name, 0), code="invalid_n_examples", message=number[1], rule=number[0]))
    return report


def rule_of_numbers(role: FileRole, method: Method | None, rows: int) -> tuple[str, str] | None:
    """The rule about numbers of rows that a file breaks, and its sentence in the API's words; None when it breaks none."""
    least, most = LEAST_ROWS[role], MOST_REINFORCEMENT_ROWS[role]
    if rows < least:
        words = f"must have at least {least} example{'s'[: least > 1]}"
        return "too_few_examples", f"{role.capitalize()} file has {rows} example(s), but {words}"
    if method == "reinforcement" and rows > most:
        return "too_many_examples", f"{role.capitalize()} file has {rows} example(s), but may have at most {most} examples"
    return None


def _checked(
    checker: LineChecker, path: Path, max_line_bytes: int, report: DataReport, on_progress: Callable[[int], None]
) -> Iterator[tuple[RawLine, dict[str, Any] | None, list[LineError]]]:
    """Every line that is not blank, with its row and findings; stops at a line that condemns the file."""
    seen = told = 0
    for line in read_lines(path, max_line_bytes=max_line_bytes):
        report.num_lines += 1
        seen += max_line_bytes if line.data is None else len(line.data) + 1
        if seen - told >= _PROGRESS_BYTES:
            told = seen
            on_progress(seen)
        yield line, *checker.take(line)
        if checker.hopeless:
            return


def _may_repeat_keys(data: bytes, row: dict[str, Any]) -> bool:
    """Whether a key may stand twice. Written again, a row without that has as many colons, unless some are escaped."""
    try:
        again = orjson.dumps(row)
    except orjson.JSONEncodeError:
        return True  # deeper than the writer goes
    return data.count(b":") != again.count(b":") or (b"\\" in data and b"\\u003" in data)
