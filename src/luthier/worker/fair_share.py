"""What each project has lately had of the training processes, so that of two that wait alike the one with less goes first.

What it does: sums seconds that fade with time. What it does not: survive the worker; a restart begins level. Pure. Called by
``group_lane.py``.
"""

HALF_LIFE_SECONDS = 3600.0
_FORGOTTEN = 0.1


class RecentUse:
    """Seconds by project, each worth half after an hour."""

    def __init__(self) -> None:
        self._used: dict[str, tuple[float, float]] = {}

    def add(self, project: str, seconds: float, now: float) -> None:
        """A project had this much; ``now`` of any clock that only rises."""
        self._used[project] = (self.of(project, now) + seconds, now)
        self._used = {name: use for name, use in self._used.items() if self.of(name, now) > _FORGOTTEN}

    def of(self, project: str, now: float) -> float:
        """What a project has lately had."""
        seconds, at = self._used.get(project, (0.0, now))
        return seconds * 0.5 ** ((now - at) / HALF_LIFE_SECONDS)
