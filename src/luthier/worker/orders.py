"""What the worker tells the process of one attempt, and what that process answers with its exit code.

What it does: plain records that cross the fork server. What it does not: run anything. Made by ``lanes.py``, ``group_lane.py`` and
``data_lane.py``, carried out by ``child.py``, ``group_child.py`` and ``data_child.py``.
"""

from dataclasses import dataclass

from luthier.core.dataset_tasks import DatasetTask
from luthier.core.jobs import Job
from luthier.core.keys import DEFAULT_PROJECT
from luthier.core.settings import Settings

EXIT_OK = 0
"""Handled: done, failed, cancelled or handed back."""
EXIT_CRASH = 1
"""An unexpected error; its text is in the run's ``child.log``."""
EXIT_ORPHAN = 3
"""The worker died."""
EXIT_LEASE_LOST = 4
"""The lease was lost and the loop did not stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOrder:
    """What the worker tells a child."""

    settings: Settings
    job: Job
    lane: str
    """``validate`` or ``train``."""
    engine_socket: str
    engine_secret: str
    project_id: str = DEFAULT_PROJECT
    """Whose time it takes."""
    priority: int = 0
    """Its weight beside other jobs of the project is two to this power."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberOver:
    """What a training process tells the worker: an attempt is over there."""

    job_id: str
    fence: int
    crashed: bool
    seconds: float
    """Of its turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetOrder:
    """What the worker tells the process of a dataset task."""

    settings: Settings
    task: DatasetTask
