"""How many steps of every phase are done and how many are left; fitted to a time budget where one was given.

What it does: name the next step, stretch or shorten what is left, say when that is due. What it does not: read a clock, or know tokens
and rates.
Called by ``train.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

_FIRST_FIT_STEPS = 100
_HELD_OUT_TIMES = 16
"""So often the held-out loss is measured, and the plan fitted again, in a run with a time budget."""
_FEWEST_TIMED = 20


@dataclass(slots=True)
class Plan:
    """Phases are trained in their order; ``done`` and ``left`` count the steps of each."""

    left: list[int]
    done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.done = self.done or [0] * len(self.left)

    @property
    def step(self) -> int:
        """Steps done."""
        return sum(self.done)

    @property
    def total(self) -> int:
        """Steps done and left."""
        return self.step + sum(self.left)

    @property
    def phase(self) -> int:
        """The phase of the next step; there must be one."""
        return next(i for i, left in enumerate(self.left) if left)

    def advance(self) -> None:
        """One step of the current phase is done."""
        phase = self.phase
        self.left[phase] -= 1
        self.done[phase] += 1

    def fit(self, seconds: float, pace: Sequence[float]) -> None:
        """Stretch or shorten what is left of every phase in proportion, so that it takes ``seconds``; 0 or less ends the run.

        ``pace``: seconds that one step of each phase takes.
        """
        needed = sum(left * each for left, each in zip(self.left, pace, strict=True))
        if needed > 0:
            self.left = [round(left * max(0.0, seconds) / needed) for left in self.left]


def shared_steps(total: int, shares: Sequence[float]) -> Plan:
    """A plan of ``total`` steps, of which each phase has its share; what rounding leaves goes to the last one."""
    left = [round(total * share) for share in shares]
    left[-1] += total - sum(left)
    return Plan(left)


class Clock:
    """When a run measures its held-out loss and fits its plan: by steps, or by time where it has a budget."""

    def __init__(self, step: int, seconds: float, budget: float | None, held_out_steps: int) -> None:
        self._step, self._seconds = step, seconds
        self._phase: int | None = None
        self._every = None if budget is None else budget / _HELD_OUT_TIMES
        self._fit_at: int | None = step + _FIRST_FIT_STEPS
        self._next = float("inf") if self._every is None else (seconds // self._every + 1) * self._every
        self._due = False
        self._held_out_steps = held_out_steps

    def fits(self, step: int, seconds: float) -> bool:
        """Whether the plan is fitted now: after the first steps, and whenever the held-out loss is measured."""
        if self._every is None:
            return False
        self._due = seconds >= self._next
        if self._due:
            self._next = (seconds // self._every + 1) * self._every
        first = step == self._fit_at
        return first or self._due

    def measures(self, step: int, seconds: float) -> bool:
        """Whether the held-out loss is measured now."""
        return step % self._held_out_steps == 0 if self._every is None else self._due

    def pace(self, pace: list[float], phase: int, step: int, seconds: float) -> list[float]:
        """Seconds a step of every phase, scaled by what the steps since the last call took, if all of them were of one phase."""
        taken, self._step = step - self._step, step
        spent, self._seconds = seconds - self._seconds, seconds
        same, self._phase = self._phase in (None, phase), phase
        factor = spent / taken / pace[phase] if same and taken >= _FEWEST_TIMED else 1.0
        return [each * factor for each in pace]
