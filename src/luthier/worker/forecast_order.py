"""What is to be forecast: a plain record that crosses the fork server.

What it does not: run anything, or import torch. Made by ``forecast_job.py``, carried out by ``forecast_child.py``.
"""

from dataclasses import dataclass
from pathlib import Path

from luthier.core.jobs import ModelRecord
from luthier.core.settings import Settings
from luthier.core.specs import Hyperparameters, LuthierOptions, ObjectiveKind

# Those of ``cli/exit_codes.py``, which stands a floor above.
DATA_INVALID, USAGE, FAILED = 5, 2, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastOrder:
    """What is to be forecast."""

    settings: Settings
    asked_model: str
    """The name as it was given."""
    base: ModelRecord
    parent: ModelRecord | None
    training: Path
    validation: Path | None
    hyperparameters: Hyperparameters
    options: LuthierOptions
    seed: int
    seconds: float
    """Of the dry run; 0 leaves it out."""
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED
