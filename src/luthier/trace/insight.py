"""The one thing to know of a run, in a sentence: a rule table. The first rule that holds speaks, with its numbers.

What it does: one sentence with the place that shows it. What it does not: ask a model, or know anything but the run's own measures.
Pure. Called by ``api/job_view.py`` and the saved page.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from luthier.trace.events import EpochDone
from luthier.trace.observations import KNOWN_ACCURACY, KNOWN_LOSS
from luthier.trace.view import TraceView

_RISE_SHARE = 0.05
_MOST_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class _Found:
    text: str
    view: str
    anchor: str


def insight_of(view: TraceView) -> dict[str, Any] | None:
    """``{"text", "rule", "view", "anchor"}``; None while nothing can be said."""
    for name, say in _RULES:
        found = say(view)
        if found is not None:
            return {"text": found.text, "rule": name, "view": found.view, "anchor": found.anchor}
    return None


def _failed(view: TraceView) -> _Found | None:
    if view.finished is None or view.finished.status != "failed":
        return None
    message = str((view.finished.error or {}).get("message") or "The job failed.")
    return _Found(message, "events", "log")


def _held_out(view: TraceView) -> list[tuple[EpochDone, float]]:
    return [(row, row.valid_loss) for row in view.ordered_epochs() if row.valid_loss is not None and math.isfinite(row.valid_loss)]


def _over_the_top(view: TraceView) -> _Found | None:
    rows = _held_out(view)
    if len(rows) < 2:
        return None
    (best, lowest), (last, now) = min(rows, key=lambda row: row[1]), rows[-1]
    if best.epoch == last.epoch or now <= lowest * (1 + _RISE_SHARE):
        return None
    text = (
        f"The held-out loss was lowest after epoch {best.epoch} ({lowest:.2f}) and rose to {now:.2f} by epoch {last.epoch}: from then on "
        "the model learned its rows by heart. Fewer epochs, or keep=best, give a better model."
    )
    return _Found(text, "training", f"epoch-{best.epoch}")


def _base_knew(view: TraceView) -> _Found | None:
    base = view.base
    if base is None or base.accuracy < KNOWN_ACCURACY or base.loss > KNOWN_LOSS:
        return None
    text = f"The base predicted this data already (loss {base.loss:.2f}, token accuracy {base.accuracy:.0%}): there was little to learn."
    return _Found(text, "training", "epochs")


def _worse(view: TraceView) -> _Found | None:
    report = view.evaluation
    if not report or report["worse"] <= report["better"]:
        return None
    better, worse = report["better"], report["worse"]
    text = f"Of {report['n']} held-out examples the tuned model is better on {better} and worse on {worse}: tuning did harm."
    return _Found(text, "compare", "view-title")


def _better(view: TraceView) -> _Found | None:
    report = view.evaluation
    if not report or report["better"] <= report["worse"]:
        return None
    n = report["n"]
    before, after = (round(report[side]["exact_match"] * n) for side in ("base", "tuned"))
    exact = f" Exactly right answers went from {before} to {after}." if after != before else ""
    text = f"The tuned model is better than its base on {report['better']} of {n} held-out examples and worse on {report['worse']}.{exact}"
    return _Found(text, "compare", "view-title")


def _fell(view: TraceView) -> _Found | None:
    rows = _held_out(view)
    if not rows or view.base is None or not view.base.held_out or rows[-1][1] >= view.base.loss:
        return None
    start, end = view.base.loss, rows[-1][1]
    first = (start - rows[0][1]) / (start - end)
    when = f", {min(first, 1.0):.0%} of that in epoch 1" if len(rows) > 1 and first >= _MOST_SHARE else ""
    text = f"On rows that it never trained on the loss fell from {start:.2f} to {end:.2f}{when}."
    return _Found(text, "training", "epochs")


def _learned(view: TraceView) -> _Found | None:
    rows = view.ordered_epochs()
    if len(rows) < 2:
        return None
    text = f"The training loss went from {rows[0].train_loss:.2f} in epoch 1 to {rows[-1].train_loss:.2f} in epoch {rows[-1].epoch}"
    held_out = "." if _held_out(view) else "; without held-out rows nothing tells whether it learned the task or the rows."
    return _Found(text + held_out, "training", "epochs")


_RULES: tuple[tuple[str, Callable[[TraceView], _Found | None]], ...] = (
    ("failed", _failed),
    ("rose_after_best", _over_the_top),
    ("base_knew", _base_knew),
    ("worse", _worse),
    ("better", _better),
    ("held_out_fell", _fell),
    ("train_fell", _learned),
)
