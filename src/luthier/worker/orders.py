"""What the worker tells the process of one attempt, and what that process answers with its exit code.

What it does: crosses the fork server without the workshop's imports, so that the worker itself stays small. What it does
not: run anything before the fork. Called by ``lanes.py``; carried out by ``child.py``.
"""

from dataclasses import dataclass
from multiprocessing.connection import Connection

from luthier.core.jobs import Job
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


def carry_out(order: ChildOrder, alive: Connection) -> None:
    """Entry point of the forked process, where the fork server has already imported the workshop."""
    from luthier.worker.child import run_child

    run_child(order, alive)
