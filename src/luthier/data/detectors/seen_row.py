"""What a detector reads of a row, and what a detector is.

What it does: names the shapes, so that detectors know nothing of how rows are read (``data/doctor/row.py``) or reports are made.
Called by every detector.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from luthier.core.doctor_report import DoctorFinding


class SeenText(Protocol):
    """One text of a row."""

    @property
    def path(self) -> str:
        """JSON path, such as ``messages[1].content``."""
        ...

    @property
    def role(self) -> str:
        """``system``, ``user``, ``assistant`` or ``tool``."""
        ...

    @property
    def text(self) -> str:
        """The text."""
        ...

    @property
    def trained(self) -> bool:
        """Whether it counts in the loss."""
        ...


class SeenRow(Protocol):
    """One sound row."""

    @property
    def line(self) -> int:
        """1-based line of the file."""
        ...

    @property
    def texts(self) -> Sequence[SeenText]:
        """Every text in order."""
        ...

    @property
    def answer(self) -> str:
        """The last trained answer; empty where there is none."""
        ...


class Detector(Protocol):
    """Looks at rows one by one, in the file's order, and keeps counts, first lines and a few excerpts only."""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of all findings that it can make."""
        ...

    def see(self, row: SeenRow) -> None:
        """Look at one row."""
        ...

    def findings(self) -> Iterable[DoctorFinding]:
        """What was found; nothing where all is well."""
        ...


def all_text(row: SeenRow) -> str:
    """All texts of a row, a line feed between them."""
    return "\n".join([text.text for text in row.texts])


def answers_of(row: SeenRow) -> list[str]:
    """The texts that a row trains the assistant to say; arguments of tool calls are none."""
    return [text.text for text in row.texts if text.trained and not text.path.endswith(".arguments")]
