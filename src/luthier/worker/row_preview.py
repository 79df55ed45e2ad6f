"""Chosen lines of a file as their tokens for one base model, or as what is wrong with them.

What it does: check (``data``), render, cut and count (``preprocessing``), as a job with this file and base would. What it does
not: find the base (``base_folder.py``), pack the file (``row_packing.py``), print, load weights. Called by ``show_row.py``. No torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Message, Role
from luthier.core.data_report import finding_to_dict
from luthier.core.errors import InvalidRequest
from luthier.core.examples import Example, SftExample
from luthier.core.specs import Decision
from luthier.data.chosen_lines import CheckedLine, check_lines
from luthier.data.validate import Method
from luthier.models.facts import max_length_of, read_config
from luthier.preprocessing.places import FilePlaces, Place
from luthier.preprocessing.preview import preview
from luthier.training.resolve import resolve_max_length


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A base model as rows are read for it."""

    renderer: Renderer
    max_length: Decision
    """Tokens at which rows are cut, and why."""


def load_reader(folder: Path, *, asked_length: int | None) -> Reader:
    """Read tokenizer, template and config of a model folder.

    Args:
        folder: of the base.
        asked_length: the job's ``max_length``; None takes what a job takes without it.

    Raises:
        InvalidRequest: a file is missing or broken.
    """
    if asked_length is not None and asked_length < 1:
        raise InvalidRequest("A row needs a length limit of at least 1 token.")
    return Reader(renderer=Renderer.load(folder), max_length=resolve_max_length(asked_length, max_length_of(read_config(folder))))


def preview_lines(
    path: Path,
    numbers: Sequence[int],
    reader: Reader,
    *,
    method: Method | None,
    max_line_bytes: int,
    file_id: str | None = None,
    packed: FilePlaces | None = None,
) -> Iterator[dict[str, Any]]:
    """One dict per line, as ``Preview.to_dict`` gives it, with ``findings`` of the check beside it.

    A line with a fault has no sequences; ``ok`` tells whether something can be learned from the line.

    Args:
        path: the file.
        numbers: 1-based lines, shown in this order.
        reader: of the base model.
        method: what the rows are for; None takes it from the file's first row.
        max_line_bytes: longest line.
        file_id: the file's public id; its name when None.
        packed: where the file's rows lie after packing, to be shown too.

    Raises:
        InvalidRequest: the file has no such line, or nothing stands on it.
        OSError: the file cannot be read.
    """
    file_id = file_id or path.name
    for line in check_lines(path, numbers, method=method, max_line_bytes=max_line_bytes, file_id=file_id):
        if line.is_blank:
            raise InvalidRequest(f"Line {line.number:,} of {path.name} is empty.")
        places = () if packed is None else packed.of_line(line.number)
        shown = _preview_of(line, reader, file_id, places) if line.is_sound else _unread(line, reader)
        packing = None if packed is None else packed.to_dict()
        yield {**shown, "file": file_id, "packing": packing, "findings": [finding_to_dict(finding) for finding in line.findings]}


def _preview_of(line: CheckedLine, reader: Reader, file_id: str, places: Sequence[Place]) -> dict[str, Any]:
    assert line.row_format is not None
    max_length = int(reader.max_length.value)
    example = line.example(file_id)
    try:
        shown = preview(example, reader.renderer, row_format=line.row_format, max_length=max_length, places=places)
    except InvalidRequest as refusal:
        message = f"Example {line.number} cannot be written in the base model's chat format: {refusal.message}"
        problem = {"code": "template_refuses", "severity": "error", "message": message}
        return {**_unread(line, reader), "problems": [problem]}
    plain = shown.to_dict()
    if (problem := _tools_not_written(example, reader, line)) is not None:
        plain["problems"].append(problem)
    try:
        orjson.dumps(plain["reference"])
    except orjson.JSONEncodeError:
        message = f"Example {line.number} has reference data that is nested too deeply to be shown."
        plain["reference"] = None
        plain["problems"].append({"code": "reference_not_shown", "severity": "warning", "message": message})
    return plain


def _tools_not_written(example: Example, reader: Reader, line: CheckedLine) -> dict[str, str] | None:
    """A warning where the row offers tools and the base's template says nothing of them: nothing in the tokens would."""
    talk = example.conversation if isinstance(example, SftExample) else example.prompt
    if not talk.tools:
        return None
    opening = tuple(takewhile(lambda message: message.role is not Role.ASSISTANT, talk.messages))
    asked = replace(talk, messages=opening or (Message(role=Role.USER, content="a"),))
    with_tools, without = (reader.renderer.prompt(one).ids_T for one in (asked, replace(asked, tools=())))
    if not np.array_equal(with_tools, without):
        return None
    message = f"Example {line.number} offers tools, and the base model's chat template writes none: the model does not see them."
    return {"code": "tools_not_written", "severity": "warning", "message": message}


def _unread(line: CheckedLine, reader: Reader) -> dict[str, Any]:
    return {
        "object": "luthier.row_preview",
        "line": line.number,
        "format": None if line.row_format is None else line.row_format.value,
        "ok": False,
        "max_length": int(reader.max_length.value),
        "sequences": [],
        "reference": None,
        "problems": [],
    }
