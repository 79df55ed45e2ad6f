"""One row of a source, before anybody knows what its columns mean.

What it does: holds it. What it does not: read (``sources.py``, ``json_rows.py``, ``parquet_rows.py``) or map (``columns.py``).
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row of a source, or what is wrong at its place."""

    place: str
    """Such as ``line 17`` or ``reviews.csv, line 17``."""
    value: dict[str, Any] | None
    fault: str = ""
