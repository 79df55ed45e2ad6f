"""Splits a file's rows into training and validation: by their content, not by their order.

What it does: rows with equal or nearly equal prompts stay on one side (``near_equal.py``), and rows of one conversation or
customer where the caller knows it; where answers are labels, each label gets its share. The same rows and seed give the same
sides in whatever order the rows stand. What it does not: change rows, or print. Called by ``worker/prepare_data.py`` and
``worker/dataset_kinds.py``.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest
from luthier.core.examples import LineError, SourceLine
from luthier.data.import_rows import BadRows
from luthier.data.near_equal import group, minhash, prompts_of
from luthier.data.new_file import new_files
from luthier.data.read import Progress, read_lines
from luthier.data.validate import parse_row

_LABEL_CHARACTERS = 60
_MAX_LABELS = 500
_LEAST_ROWS_PER_LABEL = 5
"""Answers are labels when they are short, few, and come this often on average."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a split came to."""

    num_train: int
    num_valid: int
    num_groups: int
    num_grouped: int
    """Rows that share their group with another row."""
    largest_group: int
    method: str
    """How near-equal prompts were found."""
    labels: dict[str, tuple[int, int]] | None
    """Label -> rows for training and validation; None where answers are no labels."""
    num_keyed: int = 0
    """Rows of which the caller knew what they belong to."""

    def to_dict(self) -> dict[str, Any]:
        """The split as JSON."""
        labels = self.labels
        return {
            "training_rows": self.num_train,
            "validation_rows": self.num_valid,
            "groups": self.num_groups,
            "rows_that_share_a_group": self.num_grouped,
            "largest_group": self.largest_group,
            "rows_with_a_key": self.num_keyed,
            "grouped_by": self.method,
            "labels": None if labels is None else {label: {"training": a, "validation": b} for label, (a, b) in labels.items()},
        }


class _Rows:
    """What is kept of the rows: prompts, answers and hashes, not their bytes."""

    def __init__(self) -> None:
        self.prompts: list[list[str]] = []
        self.answers: list[str | None] = []
        self.hashes: list[bytes] = []
        self.keys: list[str | None] = []

    def add(self, row: dict[str, Any], data: bytes, seed: int) -> None:
        answer = _answer(row)
        self.prompts.append(prompts_of(row))
        self.answers.append(answer if answer is not None and len(answer) <= _LABEL_CHARACTERS else None)
        self.hashes.append(hashlib.blake2b(data.strip(), digest_size=16, salt=seed.to_bytes(16, "big", signed=True)).digest())


def split(
    path: Path,
    train: Path,
    valid: Path,
    *,
    share: float,
    seed: int,
    max_line_bytes: int,
    key_of: Callable[[bytes], str | None] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Split:
    """Write the rows of ``path`` to ``train`` and ``valid``, each line as it is, in the file's order.

    Args:
        path: a file of JSON lines.
        train: the new training file.
        valid: the new validation file.
        share: how much of the rows is for validation, between 0 and 1.
        seed: another one gives another split.
        max_line_bytes: the longest line.
        key_of: gives a line's key, or None; rows with one key stay on one side.
        on_progress: is given the number of bytes read so far; the file is read twice.

    Raises:
        BadRows: a line is no JSON object, or no split leaves a row on both sides; nothing was written.
        InvalidRequest: the share or a name cannot be used.
    """
    if not 0 < share < 1:
        raise InvalidRequest(f"The share for validation is a number between 0 and 1, not {share}.")
    if train.resolve() == valid.resolve():
        raise InvalidRequest("The two new files need two different names.")
    progress = Progress(on_progress)
    rows = _read(path, seed, max_line_bytes, key_of, progress)
    library = minhash()
    groups = group(rows.prompts, library, rows.keys)
    labels = _labels(rows)
    chosen = _choose(rows, groups, labels, share)
    if not chosen or len(chosen) == len(rows.hashes):
        raise BadRows(
            f"{len(rows.hashes):,} rows in {len(groups):,} groups of nearly equal prompts cannot be split so that "
            f"{share:g} of them are for validation; nothing was written."
        )
    with new_files(train, valid) as files:
        for number, line in enumerate(read_lines(path, max_line_bytes=max_line_bytes, watch=progress.read)):
            assert line.data is not None
            files[number in chosen].write(line.data + b"\n")
    sizes = [len(members) for members in groups]
    return Split(
        num_train=len(rows.hashes) - len(chosen),
        num_valid=len(chosen),
        num_groups=len(groups),
        num_grouped=sum(size for size in sizes if size > 1),
        largest_group=max(sizes),
        method=_method(library, keyed=key_of is not None),
        labels=_table(labels, chosen) if labels is not None else None,
        num_keyed=sum(key is not None for key in rows.keys),
    )


def _method(library: Any | None, *, keyed: bool) -> str:
    words = ", and MinHash of their words (rensa)" if library is not None else ""
    return ("what rows belong to, " if keyed else "") + "equal prompts (case, spaces and numbers aside)" + words


def _read(path: Path, seed: int, max_line_bytes: int, key_of: Callable[[bytes], str | None] | None, progress: Progress) -> _Rows:
    rows = _Rows()
    for line in read_lines(path, max_line_bytes=max_line_bytes, watch=progress.read):
        row = None if line.data is None else parse_row(line.data, SourceLine("", line.number))
        if line.data is None or row is None or isinstance(row, LineError):
            raise BadRows(f"Line {line.number} is not a JSON object; nothing was written. See: luthier data fix")
        rows.add(row, line.data, seed)
        rows.keys.append(None if key_of is None else key_of(line.data))
    if not rows.hashes:
        raise BadRows("The file has no rows; nothing was written.")
    return rows


def _answer(row: dict[str, Any]) -> str | None:
    """What a row wants to hear last, when it is a text."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        answer = row.get("completion")
    else:
        last = messages[-1] if messages else None
        answer = last.get("content") if isinstance(last, dict) and last.get("role") == "assistant" else None
    return answer.strip() if isinstance(answer, str) else None


def _labels(rows: _Rows) -> list[str] | None:
    """The label of each row, when all answers are labels."""
    found = [answer for answer in rows.answers if answer]
    if len(found) < len(rows.answers):
        return None
    distinct = len(set(found))
    return found if 1 < distinct <= min(_MAX_LABELS, len(found) / _LEAST_ROWS_PER_LABEL) else None


def _choose(rows: _Rows, groups: list[list[int]], labels: list[str] | None, share: float) -> set[int]:
    """The rows for validation: whole groups, in the order of their hashes, until each label has its share."""
    strata: dict[str, list[tuple[bytes, list[int]]]] = {}
    for members in groups:
        label = ""
        if labels is not None:
            counts = Counter(labels[row] for row in members)
            label = min(counts, key=lambda name: (-counts[name], name))
        strata.setdefault(label, []).append((min(rows.hashes[row] for row in members), members))
    chosen: set[int] = set()
    for label, room in _room({label: sum(len(members) for _, members in found) for label, found in strata.items()}, share).items():
        for _, members in sorted(strata[label], key=lambda entry: entry[0]):
            if len(members) <= room:
                chosen.update(members)
                room -= len(members)
    return chosen


def _room(sizes: dict[str, int], share: float) -> dict[str, int]:
    """How many rows of each label are for validation: its share, rounded such that the sum is right."""
    exact = {label: size * share for label, size in sizes.items()}
    room = {label: int(value) for label, value in exact.items()}
    missing = max(1, round(sum(sizes.values()) * share)) - sum(room.values())
    for label in sorted(exact, key=lambda name: (room[name] - exact[name], name))[: max(0, missing)]:
        room[label] += 1
    return room


def _table(labels: list[str], chosen: set[int]) -> dict[str, tuple[int, int]]:
    every, valid = Counter(labels), Counter(labels[row] for row in chosen)
    return {label: (every[label] - valid[label], valid[label]) for label in sorted(every)}
