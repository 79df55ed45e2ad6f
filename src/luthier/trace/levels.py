"""The steps of a run as numbers for charts: every step, and sums of 16, 256, 4,096 ... of them, kept as they are written.

What it does: ``LevelWriter`` is a sink of the tracer that writes each step at its own place in a file, so that a resumed run writes
over what it repeats, and sums up each group of 16 when it is full; ``series`` reads any stretch of a run of any length in at most so many
points, the same ones for the same file. What it does not: hold the truth (the log does; ``rebuild`` makes the files of it). Written in
``worker/attempt.py``, read by the API's metrics route.

Files in ``RUN/levels/``: ``0`` to ``5``, fixed records of 32 bytes; ``valid``, one of 16 bytes for each validation.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from luthier.trace.events import EpochDone, StepDone, TraceEvent

FOLDER = "levels"
FAN = 16
"""Records of one level that make one of the next."""
LEVELS = 6
"""The last one has a record for about a million steps."""
MEANS = ("accuracy", "learning_rate", "grad_norm", "tokens_per_second")
RECORD = np.dtype([("count", "<u4"), ("low", "<f4"), ("mean", "<f4"), ("high", "<f4"), *((name, "<f4") for name in MEANS)])
"""``count`` steps; of their losses (nats) the lowest, the mean and the highest; means of the others. A step that was skipped counts 0."""
VALID = np.dtype([("step", "<u4"), ("loss", "<f4"), ("accuracy", "<f4"), ("full", "<u4")])
_NOT_MEASURED = float("nan")


def _number(value: float | None) -> float:
    return _NOT_MEASURED if value is None else float(value)


class LevelWriter:
    """A sink of the tracer. One process writes a run's files at a time: the one that holds the job's lease."""

    def __init__(self, run_dir: Path) -> None:
        folder = run_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT
        self._levels = [os.open(folder / str(level), flags, 0o644) for level in range(LEVELS)]
        self._valid = os.open(folder / "valid", flags | os.O_APPEND, 0o644)

    def __call__(self, event: TraceEvent) -> None:
        """Take one event; only steps and epoch ends matter here.

        Raises:
            OSError: the disk is full or gone.
        """
        payload = event.payload
        if isinstance(payload, StepDone):
            self._step(payload)
        elif isinstance(payload, EpochDone) and payload.valid_loss is not None:
            self._validation(payload.step, payload.valid_loss, payload.valid_accuracy, full=True)

    def close(self) -> None:
        """Close the files."""
        for descriptor in (*self._levels, self._valid):
            os.close(descriptor)

    def _step(self, step: StepDone) -> None:
        loss = _number(step.loss)
        rest = (step.token_accuracy, step.learning_rate, step.grad_norm, step.tokens_per_second)
        record = np.array([(1, loss, loss, loss, *map(_number, rest))], dtype=RECORD)
        os.pwrite(self._levels[0], record.tobytes(), (step.step - 1) * RECORD.itemsize)
        place = step.step
        for level in range(1, LEVELS):
            if place % FAN:
                break
            place //= FAN
            below = os.pread(self._levels[level - 1], FAN * RECORD.itemsize, (place - 1) * FAN * RECORD.itemsize)
            summed = summed_up(np.frombuffer(below, dtype=RECORD), FAN)
            os.pwrite(self._levels[level], summed.tobytes(), (place - 1) * RECORD.itemsize)
        if step.valid_loss is not None:
            self._validation(step.step, step.valid_loss, step.valid_accuracy, full=False)

    def _validation(self, step: int, loss: float, accuracy: float | None, *, full: bool) -> None:
        os.write(self._valid, np.array([(step, _number(loss), _number(accuracy), full)], dtype=VALID).tobytes())


def rebuild(run_dir: Path, events: Iterable[TraceEvent]) -> None:
    """Make the files of a run that has none from its log."""
    writer = LevelWriter(run_dir)
    try:
        for event in events:
            writer(event)
    finally:
        writer.close()


def summed_up(records: np.ndarray, size: int) -> np.ndarray:
    """Each ``size`` records as one; the last group may be smaller. Means are weighted by steps; what was not measured is left out."""
    groups = -(-len(records) // size)
    padded = np.zeros(groups * size, dtype=RECORD)
    padded[: len(records)] = records
    table = padded.reshape(groups, size)
    counts = table["count"].astype(np.float64)
    known = counts > 0
    result = np.zeros(groups, dtype=RECORD)
    result["count"] = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result["low"] = _extreme(np.fmin, table["low"], known)
        result["high"] = _extreme(np.fmax, table["high"], known)
        for name in ("mean", *MEANS):
            values = table[name].astype(np.float64)
            measured = known & np.isfinite(values)
            weights = np.where(measured, counts, 0.0)
            result[name] = np.where(measured, values * weights, 0.0).sum(axis=1) / weights.sum(axis=1)
    return result


def _extreme(choose: np.ufunc, values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return choose.reduce(np.where(known, values, np.nan), axis=1)


def num_steps(run_dir: Path) -> int:
    """Steps up to the last one that was written."""
    try:
        return (run_dir / FOLDER / "0").stat().st_size // RECORD.itemsize
    except FileNotFoundError:
        return 0


def count_steps(run_dir: Path) -> int:
    """Steps that were done; one that was skipped does not count."""
    each = FAN ** (LEVELS - 1)
    return int(_read(run_dir, LEVELS - 1, 0, -(-num_steps(run_dir) // each))["count"].sum())


def series(run_dir: Path, *, points: int, first: int = 1, last: int | None = None) -> dict[str, Any]:
    """The steps ``first`` to ``last`` in at most ``points`` buckets of equal size; the first begins with a multiple of its size.

    Returns:
        ``{"steps", "bucket", "series"}`` as the metrics route answers; null where nothing was measured.
    """
    total = num_steps(run_dir)
    last = min(total, last or total)
    wanted = max(0, last - first + 1)
    bucket = -(-wanted // points) if wanted else 1
    level = 0
    while level + 1 < LEVELS and FAN ** (level + 1) <= bucket:
        level += 1
    each = FAN**level
    bucket = -(-bucket // each) * each
    start = (first - 1) // bucket * bucket
    records = _read(run_dir, level, start // each, -(-last // each))
    found = summed_up(records, bucket // each) if len(records) else records
    steps = np.minimum(start + (np.arange(len(found)) + 1) * bucket, max(last, 1))
    full = found["count"] > 0
    return {
        "steps": total,
        "bucket": bucket,
        "series": {
            "step": steps[full].tolist(),
            "train_loss_min": _plain(found["low"][full]),
            "train_loss_mean": _plain(found["mean"][full]),
            "train_loss_max": _plain(found["high"][full]),
            "accuracy_mean": _plain(found["accuracy"][full]),
            "learning_rate": _plain(found["learning_rate"][full]),
            "grad_norm_mean": _plain(found["grad_norm"][full]),
            "tokens_per_second": _plain(found["tokens_per_second"][full]),
            "valid": _validations(run_dir, first, last),
        },
    }


def _read(run_dir: Path, level: int, start: int, stop: int) -> np.ndarray:
    """Records ``start`` to ``stop`` of a level; those that are not summed up yet are made from the level below."""
    path = run_dir / FOLDER / str(level)
    try:
        with path.open("rb") as file:
            file.seek(start * RECORD.itemsize)
            content = file.read(max(0, stop - start) * RECORD.itemsize)
    except FileNotFoundError:
        content = b""
    records = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], dtype=RECORD)
    missing = start + len(records)
    if level == 0 or missing >= stop:
        return records
    below = _read(run_dir, level - 1, missing * FAN, stop * FAN)
    return np.concatenate((records, summed_up(below, FAN))) if len(below) else records


def _validations(run_dir: Path, first: int, last: int) -> dict[str, list[Any]]:
    """One point a step; the whole file's validation counts more than a sample's, a later one more than an earlier one."""
    path = run_dir / FOLDER / "valid"
    content = path.read_bytes() if path.exists() else b""
    records = np.frombuffer(content[: len(content) // VALID.itemsize * VALID.itemsize], dtype=VALID)
    chosen: dict[int, tuple[float, float, bool]] = {}
    for step, loss, accuracy, full in records.tolist():
        if first <= step <= last and (full or not chosen.get(step, (0, 0, False))[2]):
            chosen[step] = (loss, accuracy, bool(full))
    points = [chosen[step] for step in sorted(chosen)]
    return {
        "step": sorted(chosen),
        "loss": _plain(np.array([p[0] for p in points])),
        "accuracy": _plain(np.array([p[1] for p in points])),
        "full": [p[2] for p in points],
    }


def _plain(values: np.ndarray) -> list[float | None]:
    """Rounded to what a float32 holds, so that 0.1 is not told as 0.10000000149."""
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]
