"""What a saved job leaves out so that its page stays small, and says so.

What it does: tries limits from wide to tight until the job fits; each is taken from the whole job, so what is said is what is missing.
What it does not: read or write anything. Pure but for the two functions that it is given. Called by ``cli/job_page.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

MAX_POINTS = 2000
_Job = dict[str, Any]
_BESIDE = ("step_count", "more_events")


@dataclass(frozen=True, slots=True)
class Limits:
    """The most of each kind."""

    steps: int = MAX_POINTS
    """Single steps: all of them or none."""
    points: int = MAX_POINTS
    """Points of the curves; the server sums up."""
    validations: int = MAX_POINTS
    events: int = 2000
    rows: int = 1000
    samples: int = 2000
    answered: int = 60
    """Epochs of which the fixed prompts' answers are kept."""
    notices: int = 500
    tokens: int = 4000
    """Of one stage's sample."""
    choices: int = 20
    """Alternatives at a step of the recorded prediction."""
    text: int = 20_000
    """Characters of one text."""
    traced: int = 1
    """The prompt that was traced for the page; at most half a megabyte (``core/prediction.py``)."""


_TIGHTER: tuple[tuple[str, int], ...] = (
    ("steps", 0),
    ("events", 1000),
    ("text", 4000),
    ("events", 300),
    ("rows", 300),
    ("points", 1000),
    ("validations", 500),
    ("text", 1000),
    ("samples", 200),
    ("answered", 12),
    ("points", 500),
    ("text", 400),
    ("rows", 100),
    ("events", 100),
    ("samples", 50),
    ("notices", 50),
    ("tokens", 400),
    ("validations", 200),
    ("choices", 5),
    ("answered", 4),
    ("points", 200),
    ("samples", 20),
    ("traced", 0),
)


def fitted(whole: _Job, metrics: Callable[[int], dict[str, Any] | None], fits: Callable[[_Job], bool]) -> _Job | None:
    """The job under the widest limits with which it fits, with ``left_out``; None where it never does.

    Args:
        whole: as ``read_job`` gives it; it is not changed.
        metrics: the curves in at most so many points.
    """
    points = {MAX_POINTS: whole["metrics"]}
    for limits in _ladder():
        if limits.points not in points:
            points[limits.points] = metrics(limits.points)
        saved = _within(whole, points[limits.points], limits)
        if fits(saved):
            return saved
    return None


def _ladder() -> Iterator[Limits]:
    limits = Limits()
    yield limits
    for name, value in _TIGHTER:
        limits = replace(limits, **{name: value})
        yield limits


def _within(whole: _Job, metrics: dict[str, Any] | None, limits: Limits) -> _Job:
    notes: list[str] = []
    view = dict(whole["view"])
    _curves(whole, view, metrics, limits, notes)
    view["answers"] = _chosen(view["answers"], limits.answered, "answers to the fixed prompts by epoch", notes)
    view["notices"] = _newest(view["notices"], limits.notices, "notices", notes)
    view["stages"] = [_stage(stage, limits, notes) for stage in view["stages"]]
    view["prediction"] = _prediction(view["prediction"], limits, notes)
    texts = _Texts(limits.text)
    view["evaluation"] = _evaluation(view["evaluation"], limits, texts, notes)
    for name in ("stages", "prediction", "notices"):
        view[name] = texts.cut(view[name])
    events = texts.cut(_events(whole, limits, notes))
    if texts.count:
        notes.append(f"{texts.count:,} long texts end after {limits.text:,} characters; each says how many are missing.")
    kept = {name: value for name, value in whole.items() if name not in _BESIDE}
    if kept.get("traced") is not None and not limits.traced:
        kept["traced"] = None
        notes.append("The traced prompt did not fit: see luthier trace --prompt.")
    rows = _rows(whole["rowLosses"], limits.rows, notes)
    return {
        **kept,
        "view": view,
        "metrics": _thinned(metrics, limits.validations, notes),
        "rowLosses": rows,
        "events": events,
        "left_out": notes,
    }


def _curves(whole: _Job, view: _Job, metrics: dict[str, Any] | None, limits: Limits, notes: list[str]) -> None:
    count = whole["step_count"]
    if len(view["steps"]) > limits.steps:
        view["steps"] = []
    if count and not view["steps"]:
        notes.append(f"Tokens, seconds and lines of the {count:,} single steps; the curves are there.")
    if metrics is not None and metrics["bucket"] > 1:
        bucket, steps = metrics["bucket"], metrics["steps"]
        notes.append(f"A point of a curve stands for {bucket:,} of {steps:,} steps: their mean, and the lowest and highest loss.")


def _thinned(metrics: dict[str, Any] | None, most: int, notes: list[str]) -> dict[str, Any] | None:
    """Held-out points: those on all of the file stay before those on a part of it; the latest stays."""
    if metrics is None:
        return None
    valid = metrics["series"]["valid"]
    indices = list(range(len(valid["step"])))
    if len(indices) <= most:
        return metrics
    whole = [i for i in indices if valid["full"][i]]
    chosen = whole if len(whole) >= most else sorted({*whole, *_spread([i for i in indices if not valid["full"][i]], most - len(whole))})
    chosen = _spread(chosen, most)
    notes.append(f"{len(chosen):,} of {len(indices):,} held-out points of the curves are kept.")
    thin = {name: [values[i] for i in chosen] for name, values in valid.items()}
    return {**metrics, "series": {**metrics["series"], "valid": thin}}


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many at even distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    if most < 2:
        return list(items[-most:]) if most else []
    return [items[i * (len(items) - 1) // (most - 1)] for i in range(most)]


def _chosen(items: list[Any], most: int, what: str, notes: list[str]) -> list[Any]:
    if len(items) > most:
        notes.append(f"{most:,} of {len(items):,} {what} are kept, the first and the last among them.")
    return _spread(items, most)


def _newest(items: list[Any], most: int, what: str, notes: list[str]) -> list[Any]:
    if len(items) > most:
        notes.append(f"{most:,} of {len(items):,} {what} are kept, the newest.")
    return items[-most:]


def _stage(stage: _Job, limits: Limits, notes: list[str]) -> _Job:
    report = stage["report"]
    tokens = (report or {}).get("sample", {}).get("tokens")
    if not isinstance(tokens, list) or len(tokens) <= limits.tokens:
        return stage
    notes.append(f"The first {limits.tokens:,} of the {len(tokens):,} tokens of the sample row are kept.")
    return {**stage, "report": {**report, "sample": {**report["sample"], "tokens": tokens[: limits.tokens]}}}


def _prediction(prediction: _Job | None, limits: Limits, notes: list[str]) -> _Job | None:
    if prediction is None:
        return None
    sides = {name: prediction[name] for name in ("base", "tuned") if name in prediction}
    if all(len(one.get("top", ())) <= limits.choices for side in sides.values() for one in side["path"]):
        return prediction
    notes.append(f"The {limits.choices} likeliest tokens of each step of the recorded prediction are kept.")
    short = {
        name: {**side, "path": [{**one, "top": one["top"][: limits.choices]} if "top" in one else one for one in side["path"]]}
        for name, side in sides.items()
    }
    return {**prediction, **short}


def _evaluation(evaluation: _Job | None, limits: Limits, texts: "_Texts", notes: list[str]) -> _Job | None:
    """Answers are compared with what was expected; one that only a cut would make right is left out."""
    if evaluation is None:
        return None
    samples = evaluation["samples"]
    kept = []
    for whole in samples[: limits.samples]:
        short = texts.cut(whole)
        if all(
            (whole[side].strip() == whole["expected"].strip()) == (short[side].strip() == short["expected"].strip())
            for side in ("base", "tuned")
        ):
            kept.append(short)
    if len(kept) < len(samples):
        notes.append(f"{len(kept):,} of {len(samples):,} compared answers are kept; the counts are of all.")
    return {**evaluation, "samples": kept}


def _rows(losses: _Job | None, most: int, notes: list[str]) -> _Job | None:
    if losses is None:
        return None
    rows, more = losses["data"][:most], losses["has_more"] or len(losses["data"]) > most
    if more and rows:
        notes.append(f"Only the {len(rows):,} rows with the highest loss are kept.")
    return {**losses, "data": rows, "has_more": more}


def _events(whole: _Job, limits: Limits, notes: list[str]) -> list[_Job]:
    """What was said stays before what was measured, the newer before the older; the order is theirs."""
    events: list[_Job] = whole["events"]
    said = [i for i, event in enumerate(events) if event.get("type") != "metrics"][-limits.events :]
    room = limits.events - len(said)
    measured = [i for i, event in enumerate(events) if event.get("type") == "metrics"][-room:] if room else []
    kept = [events[i] for i in sorted((*said, *measured))]
    if len(kept) < len(events) or whole["more_events"]:
        least = "more than " if whole["more_events"] else ""
        notes.append(f"{len(kept):,} of {least}{len(events):,} events are kept: messages before metrics, newer ones before older.")
    return kept


class _Texts:
    """Cuts every text in plain values, and counts."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.count = 0

    def cut(self, plain: Any) -> Any:
        """The same shape; a text that is too long says how many characters are missing."""
        if isinstance(plain, str):
            missing = len(plain) - self._most
            if missing <= 0:
                return plain
            self.count += 1
            return f"{plain[: self._most]}… (+{missing:,} characters)"
        if isinstance(plain, dict):
            return {name: self.cut(value) for name, value in plain.items()}
        if isinstance(plain, list | tuple):
            return [self.cut(value) for value in plain]
        return plain
