"""What the rules need to know of an epoch's steps, found while they come: the first loss that is no number, the first spike.

What it does: takes steps in order and keeps eight numbers, however long the epoch is, so that nobody has to read the steps again. What it
does not: judge (``observations.py``). Called by ``observations.py`` and ``story.py``.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from luthier.trace.events import StepDone

# A spike is looked for over windows of at least so many trained tokens: one short row says nothing about the run. A window is
# one when its mean loss is this many times the median of those before it in its epoch, this much above it (nats), and above the
# run's very first step: small batches of hard rows scatter widely, and only a disturbance goes back beyond the start.
SPIKE_TOKENS = 40
SPIKE_FACTOR = 3.0
SPIKE_MARGIN = 1.0
_HISTORY = 8
_FEWEST = 3
"""Windows before one that can be called a spike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """Neighbouring steps whose loss stands out."""

    first: int
    last: int
    loss: float
    """Mean over their trained tokens, nats."""
    usual: float
    """The median of the windows before it, nats."""
    lines: tuple[int, ...]
    """Of the training file, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """Of one epoch's steps."""

    bad_step: int | None = None
    """The first one whose loss is no finite number."""
    spike: Spike | None = None
    """The first one; not looked for after a loss that is no number."""


class StepWatch:
    """Takes a run's steps in order; a step of another epoch begins anew."""

    def __init__(self, start: float | None = None) -> None:
        """``start``: loss of the run's first step, where it is known and will not come by."""
        self._start, self._epoch = start, 0
        self._begin(0)

    def take(self, step: StepDone) -> None:
        """The next step."""
        if step.step == 1:
            self._start = step.loss
        if step.epoch != self._epoch:
            self._begin(step.epoch)
        if self._bad is not None:
            return
        if is_bad(step.loss):
            self._bad = step.step
            return
        if self._spike is None:
            self._pending.append(step)
            if sum(s.num_tokens for s in self._pending) >= SPIKE_TOKENS:
                self._close_window()

    def facts(self, epoch: int) -> StepFacts:
        """Of the epoch so far; of one without steps there is nothing to know."""
        return StepFacts(bad_step=self._bad, spike=self._spike) if epoch == self._epoch else StepFacts()

    def _begin(self, epoch: int) -> None:
        self._epoch = epoch
        self._bad: int | None = None
        self._spike: Spike | None = None
        self._pending: list[StepDone] = []
        self._earlier: deque[float] = deque(maxlen=_HISTORY)

    def _close_window(self) -> None:
        window, self._pending = self._pending, []
        loss = sum(s.loss * s.num_tokens for s in window) / sum(s.num_tokens for s in window)
        if len(self._earlier) >= _FEWEST:
            usual = median(self._earlier)
            stands_out = loss > SPIKE_FACTOR * usual and loss > usual + SPIKE_MARGIN
            if stands_out and (self._start is None or loss > self._start):
                lines = tuple(sorted({line for step in window for line in step.lines}))
                self._spike = Spike(first=window[0].step, last=window[-1].step, loss=loss, usual=usual, lines=lines)
        self._earlier.append(loss)


def is_bad(value: float | None) -> bool:
    """True for what is no finite number; the log writes it as null."""
    return value is None or not math.isfinite(value)


def watched(steps: Iterable[StepDone], start: float | None = None) -> StepFacts:
    """The facts of one epoch's steps, in order."""
    watch, epoch = StepWatch(start), 0
    for step in steps:
        watch.take(step)
        epoch = step.epoch
    return watch.facts(epoch)
