"""How fast a run goes: the seconds that it still takes, from what its steps and its epochs' ends took so far.

What it does not: look at a clock. What evaluation and deployment take it knows from the forecast alone. Called by ``recorder.py``.
"""

from collections import deque

from luthier.trace.events import EpochDone, Forecasted, StepDone

_STEPS = 50
"""Latest steps whose mean counts: a machine that becomes slower or quicker shows soon."""


class Pace:
    """The pace of one attempt."""

    def __init__(self) -> None:
        self._durations: deque[float] = deque(maxlen=_STEPS)
        self._epoch_seconds = 0.0
        self._whole_epoch = False
        self._end_seconds = 0.0
        self._n_epochs = 0
        self._after_seconds = 0.0

    def forecasted(self, forecast: Forecasted) -> None:
        """Take what is forecast for the stages after training."""
        parts = {part["name"]: part["seconds"]["likely"] for part in forecast.forecast["parts"]}
        self._after_seconds = parts.get("evaluation", 0.0) + parts.get("deployment", 0.0)

    def step_done(self, step: StepDone) -> float:
        """Take a step; returns the seconds that are left."""
        if step.step == 1:
            self._whole_epoch = True
        self._durations.append(step.seconds)
        self._epoch_seconds += step.seconds
        mean = sum(self._durations) / len(self._durations)
        epoch_ends = max(0, self._n_epochs - step.epoch + 1)
        return mean * (step.total_steps - step.step) + self._end_seconds * epoch_ends + self._after_seconds

    def epoch_done(self, epoch: EpochDone) -> None:
        """Take an epoch's end: what the epoch took beyond its steps is the validation of the whole file."""
        if self._whole_epoch:  # an attempt that began within it has not seen all of its steps
            self._end_seconds = max(0.0, epoch.seconds - self._epoch_seconds)
            self._n_epochs = epoch.n_epochs
        self._whole_epoch = True
        self._epoch_seconds = 0.0
