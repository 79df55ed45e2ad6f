"""The lines of a batch's file: checked as a whole before any is run, then read one by one (reference, section 4.7).

What it does: finds every fault of the file with its line, and gives requests. What it does not: look into the requests' bodies;
the route that answers them does. Called by ``runner.py`` in threads. Flat memory but for the ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from luthier.core.batches import MAX_REQUESTS, LineFault

MAX_FAULTS = 100
"""Most faults that are told of a file."""
_MAX_ID_CHARACTERS = 512


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found out; without faults the file may be run."""

    num_lines: int
    model: str | None
    faults: tuple[LineFault, ...]


class _Refused(Exception):
    """A fault of one line."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def _raw_lines(file: BinaryIO, max_bytes: int) -> Iterator[bytes | None]:
    """Lines without their ends; None for one that is longer than ``max_bytes``, which is skipped without being held."""
    while line := file.readline(max_bytes + 1):
        if len(line) > max_bytes and not line.endswith(b"\n"):
            while rest := file.readline(max_bytes):
                if rest.endswith(b"\n"):
                    break
            yield None
        else:
            yield line.rstrip(b"\r\n")


def _request(raw: bytes | None, endpoint: str) -> BatchLine:
    if raw is None:
        raise _Refused("line_too_long", "This line is too long.")
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _Refused("invalid_json_line", "This line is not parseable as valid JSON.") from error
    if not isinstance(row, dict):
        raise _Refused("invalid_json_line", "This line is not a JSON object.")
    for name in ("custom_id", "method", "url", "body"):
        if name not in row:
            raise _Refused("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    custom_id, body = row["custom_id"], row["body"]
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= _MAX_ID_CHARACTERS:
        raise _Refused("invalid_custom_id", f"The custom_id must be a string of 1 to {_MAX_ID_CHARACTERS} characters.", "custom_id")
    if row["method"] != "POST":
        raise _Refused("invalid_method", "The method must be POST.", "method")
    if row["url"] != endpoint:
        raise _Refused("mismatched_url", f"The URL provided for this request does not match the batch endpoint '{endpoint}'.", "url")
    if not isinstance(body, dict):
        raise _Refused("invalid_type", "The body must be a JSON object.", "body")
    if not isinstance(body.get("model"), str):
        raise _Refused("missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model")
    return BatchLine(custom_id, body)


def check_file(path: Path, endpoint: str, max_line_bytes: int) -> Checked:
    """Every fault of the file, the first ``MAX_FAULTS`` of them; blank lines count for nothing."""
    faults: list[LineFault] = []
    seen: set[str] = set()
    model: str | None = None
    count = 0
    with path.open("rb") as file:
        for number, raw in enumerate(_raw_lines(file, max_line_bytes), start=1):
            if raw is not None and not raw.strip():
                continue
            count += 1
            if count > MAX_REQUESTS:
                message = f"The batch input file has more than {MAX_REQUESTS} requests."
                faults.append(LineFault(code="too_many_requests", message=message, line=number))
                break
            try:
                line = _request(raw, endpoint)
                model = model or str(line.body["model"])
                _check_among_others(line, seen, model)
                seen.add(line.custom_id)
            except _Refused as fault:
                faults.append(LineFault(code=fault.code, message=fault.message, param=fault.param, line=number))
                if len(faults) == MAX_FAULTS:
                    break
    if not count:
        faults.append(
            LineFault(code="empty_file", message="The batch input file is empty. Please provide a file with at least one request.")
        )
    return Checked(count, model, tuple(faults))


def _check_among_others(line: BatchLine, seen: set[str], model: str) -> None:
    if line.custom_id in seen:
        message = (
            "The custom_id for this request is a duplicate of another request. The custom_id parameter must be unique for each request in "
            "a batch."
        )
        raise _Refused("duplicate_custom_id", message, "custom_id")
    if line.body["model"] != model:
        message = "The model for this request does not match the rest of the batch. Each batch must contain requests for a single model."
        raise _Refused("mismatched_model", message, "body.model")


def read_lines(path: Path, endpoint: str, max_line_bytes: int) -> Iterator[BatchLine]:
    """The requests of a file that was checked."""
    with path.open("rb") as file:
        for raw in _raw_lines(file, max_line_bytes):
            if raw is None or raw.strip():
                yield _request(raw, endpoint)
