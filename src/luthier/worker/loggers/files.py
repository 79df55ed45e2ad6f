"""What a follower keeps in the run folder, under ``loggers/``: its place, its last error, its library's own files.

What it does not: decide anything. Called by ``follower.py``, which writes, and ``followers.py``, which reads.
"""

import dataclasses
import json
from pathlib import Path

from luthier.core.errors import InvalidRequest
from luthier.worker.loggers.points import Place

_ERROR_CHARACTERS = 300


class LoggerFiles:
    """The files of one logger of one run."""

    def __init__(self, run_dir: Path, key: str) -> None:
        """``key``: see ``LoggerTarget.key``."""
        if not key.replace("-", "").isalnum():
            raise InvalidRequest(f"{key!r} cannot name a file.")
        self.folder = run_dir / "loggers"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._place = self.folder / f"{key}.json"
        self._error = self.folder / f"{key}.error"
        self.log = self.folder / f"{key}.log"
        """What the process prints."""
        self.lock = self.folder / f"{key}.lock"

    def read_place(self) -> Place:
        """Where the process before was; the beginning where there was none, or its file is damaged."""
        try:
            plain = json.loads(self._place.read_text(encoding="utf-8"))
            return Place(**{f.name: int(plain[f.name]) for f in dataclasses.fields(Place)})
        except (OSError, ValueError, KeyError, TypeError):
            return Place()

    def write_place(self, place: Place) -> None:
        """Whole or not at all."""
        temporary = self._place.with_suffix(".new")
        temporary.write_text(json.dumps(dataclasses.asdict(place)), encoding="utf-8")
        temporary.replace(self._place)

    def write_error(self, text: str) -> None:
        """Keep why the process ends: one line, short, without what a terminal would obey."""
        line = " ".join(text.split())
        safe = "".join(mark if mark.isprintable() else "?" for mark in line)[:_ERROR_CHARACTERS]
        self._error.write_text(safe, encoding="utf-8", errors="replace")

    def take_error(self) -> str:
        """That line, once; empty where there is none."""
        try:
            text = self._error.read_text(encoding="utf-8")
            self._error.unlink()
        except OSError:
            return ""
        return text
