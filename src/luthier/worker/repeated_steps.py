"""Steps that an attempt does again because its resume state lies before them: are they what they were?

What it does: compares each with the trace of the attempts before, and says once what it found. What it does not: stop anything; a run that
differs goes on, and its owner knows. Called by ``checkpoints.py``.

The promise is the same bits on a CPU (``docs/concepts/training.md``). A test can show it for the machines that it runs on; this shows it
for each job, and names the step where it does not hold.
"""

from collections.abc import Iterable

from luthier.trace.events import Notice, ResumeSaved, StepDone, TraceEvent

GPU_SHARE, GPU_LOSS = 0.01, 0.003
"""How far a loss may be from its first one on a GPU, whose attention adds in any order: a share of it, and nats."""


def _not_saved(log: Iterable[TraceEvent]) -> dict[int, StepDone]:
    """Each step behind the newest resume state but one, as it was logged last: a log may have millions before it."""
    known: dict[int, StepDone] = {}
    newest = 0
    for event in log:
        if isinstance(event.payload, StepDone):
            known[event.payload.step] = event.payload
        elif isinstance(event.payload, ResumeSaved):
            known = {step: done for step, done in known.items() if step > newest}
            newest = event.payload.step
    return known


class RepeatedSteps:
    """Those of one attempt."""

    def __init__(self, log: Iterable[TraceEvent], *, exact: bool) -> None:
        """``log``: of the attempts before; ``exact``: the same bits are expected."""
        self._known = _not_saved(log)
        self._last = max(self._known, default=0)
        self._exact = exact
        self._first = 0
        self._differs = False

    def step_done(self, report: StepDone) -> Notice | None:
        """What is to be told after this step: at the first that differs, or at the last that was known."""
        before = self._known.pop(report.step, None)
        if before is None or self._differs:
            return None
        self._first = self._first or report.step
        if not self._is_same(before, report):
            self._differs = True
            return Notice(level="warn", message=self._other(before, report))
        if report.step < self._last:
            return None
        again = f"Steps {self._first} to {self._last} were" if self._first < self._last else f"Step {self._last} was"
        how = "bit for bit" if self._exact else "up to rounding"
        return Notice(
            level="info", message=f"{again} done before the interruption, and again now: losses and gradients are the same {how}."
        )

    def _is_same(self, before: StepDone, now: StepDone) -> bool:
        if self._exact:
            return (before.loss, before.grad_norm) == (now.loss, now.grad_norm)
        return abs(before.loss - now.loss) <= GPU_SHARE * abs(before.loss) + GPU_LOSS

    def _other(self, before: StepDone, now: StepDone) -> str:
        return (
            f"Step {now.step} was done before the interruption with a loss of {before.loss:.7g} (gradient norm {before.grad_norm:.7g}) "
            f"and now has {now.loss:.7g} ({now.grad_norm:.7g}): this run does not go on exactly as it began. What it learns from here on "
            "is as good, but is not what the undisturbed run would have learned. On another processor or library than before that is so; "
            "on the same ones please report it."
        )
