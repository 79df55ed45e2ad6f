"""One fault of one row while it is looked for: the rule, the words, the place.

What it does not: know its line (``check.py`` adds it). Called by every module that judges rows.
"""

from dataclasses import dataclass

import orjson

from luthier.data.positions import Step

MAX_PER_ROW = 100
"""A row with a million faults is as wrong as one with a hundred: no more are kept, so that memory stays flat."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule in a row."""

    rule: str
    """A code of ``core/data_faults.py``."""
    text: str
    """Follows "Example N": begins with a space, or with ", message M "."""
    path: tuple[Step, ...] = ()
    in_message: bool = False
    """Whether the job's error has the code of a faulty message (``invalid_training_file``) or that of a faulty format."""
    column: int = 0
    """1-based byte column where it is known already; 0 where the path tells."""


def quoted(text: str) -> str:
    """A user's text in double quotes, escaped and cut to 64 characters, fit for a one-line message."""
    return orjson.dumps(text[:64]).decode()
