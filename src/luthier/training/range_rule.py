"""The rule of the learning-rate range test: how long it is, which rates it tries, and which one it takes.

What it does: pure functions and their sentences. What it does not: carry a test out (``range_test.py``). Called by ``resolve.py``,
``range_test.py`` and ``worker/range_testing.py``.
"""

from collections.abc import Sequence

import numpy as np

from luthier.core.specs import Decision
from luthier.trace.events import RangeTested

SHARE, LEAST_STEPS, MOST_STEPS = 0.1, 20, 60
"""Of the run's steps, within bounds: fewer than 20 say nothing, more than 60 cost more than they tell."""
SPAN = 10.0
"""The test goes from the automatic rate divided by this to the automatic rate times this."""
MARGIN = 10.0**0.5
"""Between the rate with the lowest loss and the one that is taken: half a decade."""
ENOUGH_POINTS = 10
_WIDTH = 0.25
"""Of the smoothing, decades."""


def range_test_decision(total_steps: int) -> Decision:
    """How many steps the test takes before a run of so many."""
    value = min(MOST_STEPS, max(LEAST_STEPS, int(total_steps * SHARE)))
    reason = (
        "As asked: before the first step, on weights that are thrown away, the learning rate rises from a tenth to ten times of the "
        f"automatic one (Smith 2017, arXiv:1506.01186). A tenth of {total_steps:,} steps, at least {LEAST_STEPS} and at most {MOST_STEPS}."
    )
    return Decision(name="range_test", value=value, reason=reason)


def rate_at(step: int, steps: int, base: float) -> float:
    """The rate of a 1-based step of a test of at least two steps around ``base``."""
    return base / SPAN * SPAN ** (2.0 * (step - 1) / (steps - 1))


def smoothed(rates: Sequence[float], changes: Sequence[float], tokens: Sequence[int]) -> list[float]:
    """Means of the neighbours on both sides, by a normal curve over the rate's logarithm, each weighted by its tokens.

    An average of the steps before, as is usual while a test goes on, would lag behind and find every rate too high.
    """
    at = np.log10(np.asarray(rates, dtype=np.float64))
    near = np.exp(-0.5 * ((at[:, None] - at[None, :]) / _WIDTH) ** 2) * np.asarray(tokens, dtype=np.float64)[None, :]
    return ((near @ np.asarray(changes, dtype=np.float64)) / near.sum(axis=1)).tolist()


def chosen_rate(rates: Sequence[float], curve: Sequence[float], base: float) -> tuple[float, float | None]:
    """The rate to train with, and the one where the smoothed curve is lowest; None where the test has nothing to say.

    Where the curve is lowest an update does as much harm as good. Half a decade below it the many steps of a whole run still gain.

    Args:
        rates: rising.
        curve: nats per token below (negative) or above the start, smoothed; as many as there are rates.
        base: kept where there are too few points, or no rate made anything cheaper.
    """
    if len(rates) < ENOUGH_POINTS:
        return base, None
    lowest = int(np.argmin(curve))
    if curve[lowest] >= 0.0:
        return base, None
    return max(rates[0], rates[lowest] / MARGIN), rates[lowest]


def rate_decisions(told: RangeTested, multiplier: float) -> tuple[Decision, ...]:
    """Why the learning rate, and the multiplier that it amounts to, are what they are; only the rate where the test said nothing."""
    points = len(told.rates)
    if told.lowest_rate is None:
        enough = points >= ENOUGH_POINTS
        why = "none of its rates made rows cheaper" if enough else f"after {points} of {told.steps} steps a number was not finite"
        reason = f"The range test says nothing: {why}. The automatic rate stays."
        return (Decision(name="learning_rate", value=told.learning_rate, reason=reason),)
    at_end = points == told.steps and told.lowest_rate == told.rates[-1]
    where = f"{told.lowest_rate:.2g}, the end of its range, where the loss still fell" if at_end else f"{told.lowest_rate:.2g}"
    below = f"Half a decade below the rate with the range test's lowest loss ({where})"
    reason = f"{below}; the automatic rate would have been {told.base_rate:.3g}."
    amounts = Decision(name="learning_rate_multiplier", value=multiplier, reason="What the range test's rate is of the base rate.")
    return amounts, Decision(name="learning_rate", value=told.learning_rate, reason=reason)
