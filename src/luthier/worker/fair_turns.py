"""Whose turn it is: every project gets the same time, and within a project every run by its priority.

What it does: start-time fair queueing (Goyal, Vin and Cheng 1996) on two floors, projects and their runs: the one that has had least time,
divided by its weight, is next. What it does not: run anything, look at a clock, or know about threads. Pure. Called by ``floor.py``.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class _Run:
    project: str
    weight: float
    time: float
    """Seconds of its turns, divided by its weight."""


class FairTurns:
    """The runs that share one model."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._projects: dict[str, float] = {}
        """Seconds of the turns of each project's runs."""

    def __contains__(self, name: str) -> bool:
        return name in self._runs

    def __len__(self) -> int:
        return len(self._runs)

    def join(self, name: str, *, project: str, weight: float) -> None:
        """A run begins. It starts level with those that have had least: time before it came gives it no claim."""
        if project not in self._projects:
            self._projects[project] = min(self._projects.values(), default=0.0)
        others = [run.time for run in self._runs.values() if run.project == project]
        self._runs[name] = _Run(project, weight, min(others, default=0.0))

    def leave(self, name: str) -> None:
        """A run is over; does nothing for one that is not there."""
        run = self._runs.pop(name, None)
        if run is not None and all(other.project != run.project for other in self._runs.values()):
            del self._projects[run.project]

    def spend(self, name: str, seconds: float) -> None:
        """A run had a turn."""
        run = self._runs[name]
        run.time += seconds / run.weight
        self._projects[run.project] += seconds

    def come_back(self, name: str, ready: Iterable[str]) -> None:
        """A run had something to do beside. What it missed meanwhile is not made up for: it is level with those who wait now."""
        run = self._runs[name]
        waiting = [self._runs[other] for other in ready if other != name]
        times = [other.time for other in waiting if other.project == run.project]
        if times:
            run.time = max(run.time, min(times))
        elif waiting:
            mine, theirs = self._projects[run.project], min(self._projects[other.project] for other in waiting)
            self._projects[run.project] = max(mine, theirs)

    def next(self, ready: Iterable[str]) -> str:
        """Which of the waiting runs is next; there must be one."""
        return min(ready, key=lambda name: (self._projects[self._runs[name].project], self._runs[name].time))

    def share(self, name: str) -> float:
        """The part of all time that a run gets as long as nobody comes or goes; 1 for one that is not there."""
        run = self._runs.get(name)
        if run is None:
            return 1.0
        mine = sum(other.weight for other in self._runs.values() if other.project == run.project)
        return run.weight / mine / len(self._projects)
