"""Short runs, one for each way an epoch can go: the logs and views in ``tests/golden/trace`` that hold the two reducers together.

What it does: makes the events. What it does not: compare (``tests/unit/trace/test_view.py`` and ``web/tests/reducer.test.ts`` do).
``python -m tests.support.trace_goldens`` writes the files anew.
"""

import json
import random
from dataclasses import replace
from pathlib import Path

from luthier.core.stage import Stage
from luthier.trace.events import BaseMeasured, Payload, ReferenceScored, RunStarted, TraceEvent, event_from_dict
from luthier.trace.view import view_of
from luthier.trace.writer import encode_event
from tests.support.trace_logs import BASE, MODEL, epoch, events_of, step, whole_run

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "trace"


def _run(*payloads: Payload) -> list[TraceEvent]:
    start = RunStarted(model=MODEL, base=BASE, attempt=1, resumed_from_step=0)
    return events_of([(Stage.TRAINING, payload) for payload in (start, *payloads)])


def _overfits() -> list[TraceEvent]:
    """Best so far, then held-out loss rises, then known by heart; numbers that stand exactly between two shown ones."""
    rows = [(2.675, 1.125, 0.5), (1.375, 0.8125, 0.75), (0.625, 0.9375, 0.9), (0.0625, 1.0625, 0.98), (0.03125, 0.8203125, 1.0)]
    epochs = [epoch(i, train, valid, n=7, accuracy=hits) for i, (train, valid, hits) in enumerate(rows, start=1)]
    by_heart = [epoch(6, 0.03125, 0.8203125, n=7, accuracy=1.0), epoch(7, 0.028, 0.8203125, n=7, accuracy=1.0)]
    return _run(BaseMeasured(loss=1.25, accuracy=0.375, held_out=True), *epochs, *by_heart)


def _known_without_held_out() -> list[TraceEvent]:
    """The base knows the data; afterwards no held-out data, flat, and memorised."""
    rows = [epoch(1, 0.25, None, n=4, accuracy=0.92), epoch(2, 0.2, None, n=4), epoch(3, 0.199, None, n=4), epoch(4, 0.19, None, n=4)]
    return _run(BaseMeasured(loss=0.345, accuracy=0.905, held_out=False), *rows)


def _spikes() -> list[TraceEvent]:
    """A loss that jumps at one step and at two steps together, with and without lines; a later attempt repeats the step without it."""
    calm = [step(i, 1.0 + i / 64, epoch=1) for i in range(1, 6)]
    jump = replace(step(6, 9.125, epoch=1), lines=(12, 7, 12))
    halves = [replace(step(i, 0.5, epoch=2), num_tokens=20) for i in range(7, 15)]
    jumps = [replace(step(i, loss, epoch=2), num_tokens=20, lines=(i,)) for i, loss in ((15, 8.0), (16, 7.5))]
    first = [*calm, jump, epoch(1, 2.5, 1.5), *halves, *jumps, epoch(2, 2.0, 1.25)]
    again = [RunStarted(model=MODEL, base=BASE, attempt=2, resumed_from_step=5), step(6, 1.125, epoch=1), epoch(1, 1.25, 1.5)]
    return [*_run(*first), *events_of([(Stage.TRAINING, p) for p in again], first_id=len(first) + 2, attempt=2)]


def _not_finite() -> list[TraceEvent]:
    """A loss that is no number, at a step and at the end."""
    bad = replace(step(3, 1.0, epoch=2), loss=float("nan"))
    rows = [step(1, 2.0), epoch(1, 2.0, 2.5), bad, epoch(2, 1.5, 2.0), epoch(3, float("inf"), None)]
    return _run(BaseMeasured(loss=3.0, accuracy=0.1, held_out=True), *rows)


def _pairs(prefers: float, margin: float, accuracy: float, chosen: float) -> dict[str, float]:
    rewards = {"reward_chosen": margin / 2, "reward_rejected": -margin / 2, "reward_margin": margin, "reward_accuracy": accuracy}
    return {**rewards, "logp_chosen": chosen, "logp_rejected": chosen - margin, "prefers": prefers}


def _preference(*, held_out: bool) -> list[TraceEvent]:
    """Pairs: hardly moved, preferred, the margin falls on held-out pairs, the preferred answers fall."""
    rows = [
        (0.5, 0.005, 0.5, -20.0),
        (0.625, 0.125, 0.75, -20.5),
        (0.875, 0.75, 0.875, -20.25),
        (0.885, 0.5, 0.905, -21.0),
        (1.0, 2.5, 1.0, -31.25),
    ]
    base = BaseMeasured(loss=0.6875, accuracy=0.5, held_out=held_out, preference=_pairs(0.505, 0.0, 0.5, -20.0))
    payloads: list[Payload] = [base, ReferenceScored(done=8, total=8, seconds=1.5, reused=False)]
    for i, (prefers, margin, accuracy, chosen) in enumerate(rows, start=1):
        trained, valid = _pairs(prefers, margin + i, accuracy, chosen), _pairs(prefers, margin, accuracy, chosen)
        row = epoch(i, 0.7 - i / 16, 0.6875 if held_out else None, n=5)
        payloads.append(replace(row, preference=trained, valid_preference=valid if held_out else None))
    return _run(*payloads)


def _scatter() -> list[TraceEvent]:
    """Sixty epochs of numbers without a story, from a fixed seed: rounding and order, many times."""
    dice = random.Random(20)
    payloads: list[Payload] = [BaseMeasured(loss=4.0, accuracy=0.1, held_out=True)]
    for i in range(1, 61):
        steps = [
            replace(step(3 * i - 2 + k, dice.choice((0.5, 1, 8)) * dice.random(), epoch=i), num_tokens=dice.randint(9, 60))
            for k in range(3)
        ]
        train, valid = dice.random() * 3, dice.random() * 2
        payloads += [*steps, epoch(i, dice.choice((train, round(train, 3))), dice.choice((valid, round(valid, 3), None)), steps=3, n=60)]
    return _run(*payloads)


def logs() -> dict[str, list[TraceEvent]]:
    """Name of the golden files -> the run."""
    return {
        "whole_run": whole_run(),
        "overfits": _overfits(),
        "known_without_held_out": _known_without_held_out(),
        "spikes": _spikes(),
        "not_finite": _not_finite(),
        "preference": _preference(held_out=True),
        "preference_without_held_out": _preference(held_out=False),
        "scatter": _scatter(),
    }


def main() -> None:
    """Write every log and its view."""
    for name, events in logs().items():
        lines = [encode_event(event) for event in events]
        (GOLDEN / f"{name}.jsonl").write_bytes(b"".join(lines))
        view = view_of(read_back(lines)).to_dict()
        (GOLDEN / f"{name}.view.json").write_text(json.dumps(view, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def read_back(lines: list[bytes]) -> list[TraceEvent]:
    """The events as a reader of the log gets them: a number that is none comes back as None."""
    return [event_from_dict(json.loads(line)) for line in lines]


if __name__ == "__main__":
    main()
