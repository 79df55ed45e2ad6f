"""What an epoch's numbers mean, in plain words: a rule table. The first rule that holds speaks, with its numbers.

What it does: one sentence per epoch. What it does not: ask a model, or know anything but the run's own measures. Called by
``view.py``; the order is that of the design (``RULES``).
"""

import math
from collections.abc import Sequence

from luthier.trace import preference_observations
from luthier.trace.events import BaseMeasured, EpochDone, StepDone
from luthier.trace.facts import Facts, Rule
from luthier.trace.step_watch import StepFacts, is_bad, watched

# The base counts as knowing the data from this token accuracy and this loss (nats) on.
KNOWN_ACCURACY = 0.90
KNOWN_LOSS = 0.35
# Relative changes of a loss: more than this is learning fast, less than this is flat or no real rise.
FAST_SHARE = 0.30
FLAT_SHARE = 0.02
RISE_SHARE = 0.01
# From here on the training rows are known by heart.
MEMORISED_ACCURACY = 0.99
MEMORISED_LOSS = 0.05


def _not_finite(f: Facts) -> bool:
    row = f.row
    held_out_bad = row.valid_loss is not None and not math.isfinite(row.valid_loss)
    return held_out_bad or any(is_bad(r.train_loss) for r in f.rows) or f.steps.bad_step is not None


def _say_not_finite(f: Facts) -> str:
    bad = f.steps.bad_step
    where = f" at step {bad}" if bad is not None else ""
    return f"the loss is not a finite number{where}: the learning rate is too high, or the data holds something extreme"


def _known(f: Facts) -> bool:
    return f.before is None and f.base is not None and f.base.accuracy >= KNOWN_ACCURACY and f.base.loss <= KNOWN_LOSS


def _say_known(f: Facts) -> str:
    assert f.base is not None
    measured = f"loss {f.base.loss:.2f}, accuracy {f.base.accuracy:.2f} before training"
    return f"the base already predicts this data ({measured}): little is left to learn"


def _say_spike(f: Facts) -> str:
    spike = f.steps.spike
    assert spike is not None
    lines = spike.lines
    where = f"line {lines[0]}" if len(lines) == 1 else "lines " + ", ".join(map(str, lines)) if lines else "its rows"
    when = f"step {spike.first}" if spike.first == spike.last else f"steps {spike.first} to {spike.last}"
    return f"the loss jumped to {spike.loss:.2f} at {when} (before it {spike.usual:.2f}): look at {where}"


def _held_out_rises(f: Facts) -> bool:
    best, before = f.best_before, f.before
    if best is None or before is None or best.valid_loss is None or f.row.valid_loss is None:
        return False
    return f.row.valid_loss > best.valid_loss * (1 + RISE_SHARE) and f.row.train_loss < before.train_loss


def _say_held_out_rises(f: Facts) -> str:
    best, before = f.best_before, f.before
    assert best is not None
    assert before is not None
    return (
        f"held-out loss rises to {f.row.valid_loss:.2f} (best {best.valid_loss:.2f} in epoch {best.epoch}) while train loss falls from "
        f"{before.train_loss:.2f} to {f.row.train_loss:.2f}: epoch {best.epoch} generalises best"
    )


def _best(f: Facts) -> bool:
    best = f.best_before
    return best is not None and best.valid_loss is not None and f.row.valid_loss is not None and f.row.valid_loss < best.valid_loss


def _say_best(f: Facts) -> str:
    best = f.best_before
    assert best is not None
    assert f.before is not None
    train = f"train loss {_change(f.before.train_loss, f.row.train_loss)}"
    return f"best held-out loss so far: {f.row.valid_loss:.3f} (before it {best.valid_loss:.3f} in epoch {best.epoch}); {train}"


def _reference(f: Facts) -> tuple[str, float, float] | None:
    """What to compare this epoch with: a name, the loss there, the same loss now."""
    if f.before is not None:
        return "train loss", f.before.train_loss, f.row.train_loss
    if f.base is None:
        return None
    if f.base.held_out:
        return None if f.row.valid_loss is None else ("held-out loss", f.base.loss, f.row.valid_loss)
    return "train loss", f.base.loss, f.row.train_loss


def _fast(f: Facts) -> bool:
    found = _reference(f)
    return found is not None and found[2] <= found[1] * (1 - FAST_SHARE)


def _say_fast(f: Facts) -> str:
    found = _reference(f)
    assert found is not None
    since = "in the base" if f.before is None else f"in epoch {f.before.epoch}"
    return f"learning fast: {found[0]} {found[2]:.2f}, from {found[1]:.2f} {since}; token accuracy {f.row.train_accuracy:.2f}"


def _flat(f: Facts) -> bool:
    return f.before is not None and abs(f.row.train_loss - f.before.train_loss) <= FLAT_SHARE * f.before.train_loss


def _say_flat(f: Facts) -> str:
    assert f.before is not None
    return f"flat: train loss {f.before.train_loss:.3f} -> {f.row.train_loss:.3f}; more epochs at this rate would change little"


def _memorised(f: Facts) -> bool:
    return f.row.train_accuracy >= MEMORISED_ACCURACY and f.row.train_loss <= MEMORISED_LOSS


def _say_memorised(f: Facts) -> str:
    return f"the training rows are known by heart (loss {f.row.train_loss:.3f}, accuracy {f.row.train_accuracy:.3f})"


def _no_held_out(f: Facts) -> bool:
    return f.row.valid_loss is None


def _say_no_held_out(f: Facts) -> str:
    if f.before is None:
        now = f"train loss {f.row.train_loss:.2f}, accuracy {f.row.train_accuracy:.2f}"
    else:
        now = f"train loss {_change(f.before.train_loss, f.row.train_loss)}"
    return f"{now}; no held-out data, so nothing tells whether it generalises"


def _always(f: Facts) -> bool:
    return True


def _say_changes(f: Facts) -> str:
    if f.before is None:
        return f"first epoch: train loss {f.row.train_loss:.2f}, held-out loss {f.row.valid_loss:.2f}"
    train = f"train loss {_change(f.before.train_loss, f.row.train_loss)}"
    if f.before.valid_loss is None or f.row.valid_loss is None:
        return train
    return f"{train}, held-out loss {_change(f.before.valid_loss, f.row.valid_loss)}"


def _change(old: float, new: float) -> str:
    return f"{old:.2f} -> {new:.2f}"


RULES: tuple[Rule, ...] = (
    Rule("not_finite", _not_finite, _say_not_finite),
    Rule("base_knows", _known, _say_known),
    Rule("spike", lambda f: f.steps.spike is not None, _say_spike),
    Rule("held_out_rises", _held_out_rises, _say_held_out_rises),
    Rule("best_held_out", _best, _say_best),
    Rule("fast", _fast, _say_fast),
    Rule("flat", _flat, _say_flat),
    Rule("memorised", _memorised, _say_memorised),
    Rule("no_held_out", _no_held_out, _say_no_held_out),
    Rule("changes", _always, _say_changes),
)
PREFERENCE_RULES: tuple[Rule, ...] = (RULES[0], *preference_observations.RULES)
"""For jobs that learn from pairs. Their steps scatter by nature, a pair being right or wrong: a spike says nothing there."""


def rule_for(
    rows: Sequence[EpochDone], *, base: BaseMeasured | None = None, steps: Sequence[StepDone] = (), known: StepFacts | None = None
) -> tuple[Rule, Facts]:
    """The first rule that holds for the last of ``rows``, and the facts it looked at."""
    if known is None:
        start = next((s.loss for s in steps if s.step == 1), None)
        known = watched([s for s in steps if s.epoch == rows[-1].epoch], start)
    facts = Facts(rows, base, known)
    rules = RULES if rows[-1].preference is None else PREFERENCE_RULES
    return next(rule for rule in rules if rule.holds(facts)), facts


def observe(
    rows: Sequence[EpochDone], *, base: BaseMeasured | None = None, steps: Sequence[StepDone] = (), known: StepFacts | None = None
) -> str:
    """The observation on the last of ``rows``.

    Args:
        rows: epochs in order, at least one; the last is spoken of.
        base: the base's measure before the first step, if there is one.
        steps: all steps of the run known so far.
        known: what was found of the epoch's steps already; ``steps`` is not read then.
    """
    rule, facts = rule_for(rows, base=base, steps=steps, known=known)
    return rule.says(facts)
