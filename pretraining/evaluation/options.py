"""What one evaluation was asked to do, and the checks of its inputs.

What it does: holds the choices of the command line, reads and writes JSONL files, names what is missing. What it does not: parse the
command line (``pretraining/evaluate.py``) or measure. Called by every section.
"""

import json
import lzma
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pretraining.errors import PretrainingError

Row = TypeVar("Row")

LEAST_TRAINING_ROWS = 10
"""The product refuses a smaller training file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of one call."""

    model: Path
    """Folder of the base model, in Hugging Face's format."""
    corpus: Path | None
    """Folder of the pre-training corpus; None when it was not given."""
    tasks: Path | None
    """Folder of the public task files; None when it was not given."""
    examples: Path
    """The project's own examples."""
    phrases: Path
    """Everyday phrases with the answers that count as right."""
    seeds: tuple[int, ...]
    limit: int | None = None
    """At most so many rows of everything, for a trial; None: all."""

    def cut(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are asked: all, or the first ``limit``."""
        return list(rows[: self.limit])

    def cut_training(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are trained on: all, or the first ``limit``, but never fewer than the product takes."""
        return list(rows if self.limit is None else rows[: max(self.limit, LEAST_TRAINING_ROWS)])

    @contextmanager
    def example_files(self, name: str) -> Iterator[tuple[Path, Path]]:
        """``train.jsonl`` and ``valid.jsonl`` of an example folder; under a limit cut copies, which are gone after the block."""
        train, valid = (self.examples / name / f"{part}.jsonl" for part in ("train", "valid"))
        if self.limit is None:
            yield train, valid
            return
        with tempfile.TemporaryDirectory() as folder:
            cut = Path(folder)
            yield (
                write_rows(cut / train.name, self.cut_training(read_rows(train))),
                write_rows(cut / valid.name, self.cut(read_rows(valid))),
            )


def missing_files(folder: Path | None, names: Sequence[str], *, section: str, option: str) -> list[str]:
    """One sentence when files that a section reads are not there; an empty list when all are."""
    if folder is None:
        return [f"Section {section} needs {option} DIR."]
    gone = [name for name in names if not (folder / name).exists()]
    return [f"Section {section} needs {', '.join(gone)} in {folder} ({option}), and it is not there."] if gone else []


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, unpacked when its name ends in ``.xz``.

    Raises:
        PretrainingError: the file is cut short, or a line is no JSON.
    """
    try:
        raw = path.read_bytes()
        raw = lzma.decompress(raw) if path.suffix == ".xz" else raw
        return [json.loads(line) for line in raw.decode().split("\n") if line.strip()]
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise PretrainingError(f"{path} cannot be read: {error}. Copy it again.") from error


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSONL; returns the path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
