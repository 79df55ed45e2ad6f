"""What a run does about a step that went wrong: a loss or gradient that is no finite number, and a loss far above the usual.

What it does: the sentences, the bound above which a loss is a spike, how often the rate is halved. Pure. What it does not: skip or take a
step. Called by ``loop.py``.

The bound is robust: median and median absolute deviation (times 1.4826 it estimates a standard deviation; Hampel 1974,
doi:10.1080/01621459.1974.10482962) of the latest losses, so that a spike does not raise the bar for the next one. All of it lies in
``Progress``: a resumed run judges as an undisturbed one.

Above the bound alone is not enough: at batch size 1 one hard row among known ones is far above it without any harm. A spike is also higher
than every loss with which the run began (its first ``FEWEST``): what the rows cost before anything was learned. A hard row goes back to
there at most; a disturbance goes beyond.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from luthier.core.errors import JobFailure
from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.trace.events import LossSpiked
from luthier.training.progress import Progress

WINDOW, FEWEST = 32, 16
"""So many losses the bound is made of; with fewer than the second number there is none."""
_DEVIATIONS, _NORMAL = 8.0, 1.4826
_SHARE, _MARGIN = 0.5, 0.5
"""The bound lies at least so far above the median: as a share of it, and in nats."""
LEAST_FACTOR = 1 / 16
_NAMED_LINES, REPORTED_LINES = 10, 32


class NotFinite(Exception):
    """A step's loss or gradient is infinite or not a number. Within the loop only."""

    def __init__(self, what: str, lines: Sequence[int]) -> None:
        """``what``: loss or gradient. ``lines``: of the training file, those that it may come from."""
        super().__init__(what)
        self.what, self.lines = what, tuple(sorted(set(lines)))


@dataclass(frozen=True, slots=True)
class Judged:
    """A step's loss beside the ones before it."""

    progress: Progress
    spike: LossSpiked | None


def judged(progress: Progress, spec: TrainingSpec, *, step: int, loss: float, lines: Sequence[int]) -> Judged:
    """Look at a step's loss before its update; with ``halve_on_spike`` this update takes the halved rate already.

    Pairs of answers scatter by nature, one being right or wrong: their losses are not judged.
    """
    if spec.objective is not ObjectiveKind.SUPERVISED:
        return Judged(progress, None)
    losses = progress.recent_losses
    known = replace(progress, recent_losses=(*losses, loss)[-WINDOW:])
    if len(losses) < FEWEST:
        # The first losses of all; a run that was resumed from before they were kept has none, and is judged by the bound alone.
        return Judged(replace(known, start_loss=max(loss, progress.start_loss or 0.0)), None)
    bound = spike_bound(losses, start=progress.start_loss)
    if bound is None or loss <= bound:
        return Judged(known, None)
    # One disturbance that lasts for some steps halves the rate once.
    rested = not progress.halved_at or step - progress.halved_at >= FEWEST
    halve = spec.halve_on_spike and rested and progress.rate_factor / 2 >= LEAST_FACTOR
    if halve:
        known = replace(known, rate_factor=progress.rate_factor / 2, halved_at=step)
    spike = LossSpiked(
        step=step,
        loss=loss,
        usual=median(losses),
        bound=bound,
        lines=tuple(sorted(set(lines))[:REPORTED_LINES]),
        halved=halve,
        rate_factor=known.rate_factor,
    )
    return Judged(known, spike)


def spike_bound(losses: Sequence[float], *, start: float | None = None) -> float | None:
    """The loss (nats) above which the next one is a spike; None while too few are known. ``start``: the highest of the first losses."""
    if len(losses) < FEWEST:
        return None
    middle = median(losses)
    spread = _NORMAL * median(abs(loss - middle) for loss in losses)
    return max(middle + max(_DEVIATIONS * spread, _SHARE * middle, _MARGIN), start or 0.0)


def failure(found: NotFinite, spec: TrainingSpec, *, step: int, in_row: int) -> JobFailure:
    """The end of a run that has skipped as many steps in a row as it may."""
    shown = ", ".join(map(str, found.lines[:_NAMED_LINES]))
    more = f" and {len(found.lines) - _NAMED_LINES} more" if len(found.lines) > _NAMED_LINES else ""
    skipped = "" if in_row == 1 else f" It was the {_ordinal(in_row)} step in a row; the ones before it were skipped."
    return JobFailure(
        f"The {found.what} stopped being a finite number at step {step} of {spec.total_steps}, on training line(s) {shown}{more}.{skipped} "
        "Look at these lines, or use a smaller learning_rate_multiplier.",
        code="nan_loss",
    )


def nothing_learned(epoch: int) -> JobFailure:
    """Every step of an epoch was skipped."""
    return JobFailure(
        f"No step of epoch {epoch} had a finite loss and gradient, so nothing was learned from it. The events name the training lines. "
        "Look at them, or use a smaller learning_rate_multiplier.",
        code="nan_loss",
    )


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
