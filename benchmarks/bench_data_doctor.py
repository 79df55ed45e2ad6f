"""``luthier data doctor`` of a chat file of 100 MB: seconds, processor time and memory of all its processes.

Run: ``python -m benchmarks.bench_data_doctor``. Two files, made from a fixed seed: the one of ``bench_data_check``, whose few words
are all common, and one with the vocabulary of a language (frequencies by Zipf's law), copies, near copies and a validation file.
What is planted must be found. Copying the same bytes is timed beside it, and the machine's load is recorded.
"""

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.bench_data_check import MEGABYTE, ROWS, copy_seconds, make_file, run_once
from benchmarks.measured import median, record, spread

REPEATS = 3
TARGET_SECONDS = 60.0
TARGET_MB = 1000.0
VOCABULARY = 60_000
VALIDATION_ROWS = 3_000
COPY_EVERY, NEAR_EVERY, OVERLAP_EVERY = 200, 100, 50
"""Every nth row is a copy of an earlier one, or one with a word changed; every nth validation row stands in training."""
_LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def words_of(count: int, draw: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Different words, the frequent ones short, and how likely each is."""
    found: dict[str, None] = {}
    while len(found) < count:
        length = 2 + int(np.log1p(len(found)) / 1.6 + draw.random() * 3)
        found.setdefault("".join(_LETTERS[index] for index in draw.integers(0, len(_LETTERS), length)))
    weights = 1.0 / np.arange(3, count + 3)
    return list(found), weights / weights.sum()


def make_talks(path: Path, valid: Path) -> dict[str, int]:
    """Write the file with the vocabulary of a language and its validation file; returns what was planted."""
    draw = np.random.default_rng(20261126)
    choose = random.Random(20261126)
    words, weights = words_of(VOCABULARY, draw)
    stock = iter(draw.choice(len(words), size=ROWS * 140, p=weights).tolist())

    def text(low: int, high: int) -> str:
        return " ".join(words[next(stock)] for _ in range(choose.randint(low, high)))

    def row() -> dict[str, Any]:
        messages = [{"role": "system", "content": "You answer briefly, and you say so when you do not know."}]
        for _ in range(choose.choice((1, 1, 2))):
            messages += [{"role": "user", "content": text(16, 36)}, {"role": "assistant", "content": text(28, 56)}]
        return {"messages": messages}

    rows: list[dict[str, Any]] = []
    planted = {"exact_duplicate": 0, "near_duplicate": 0, "validation_row_in_training": 0}
    for number in range(ROWS):
        new = row()
        if number and number % COPY_EVERY == 0:
            new = rows[number // 2 + 1]  # no other copy stands there
            planted["exact_duplicate"] += 1
        elif number and number % NEAR_EVERY == 0:
            new = orjson.loads(orjson.dumps(rows[number // 3 + 1]))
            new["messages"][-1]["content"] += " indeed"
            planted["near_duplicate"] += 1
        rows.append(new)
    with path.open("wb") as file:
        file.writelines(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in rows)
    with valid.open("wb") as file:
        for number in range(VALIDATION_ROWS):
            seen = number % OVERLAP_EVERY == 0
            planted["validation_row_in_training"] += seen
            file.write(orjson.dumps(rows[number + 1] if seen else row(), option=orjson.OPT_APPEND_NEWLINE))
    return planted


def examine(name: str, path: Path, valid: Path | None, planted: dict[str, int], results: dict[str, Any]) -> None:
    """Examine a file several times, and add the figures to ``results``."""
    report_path = path.with_suffix(".report.json")
    command = ["data", "doctor", str(path), "--output", str(report_path)]
    command += [] if valid is None else ["--validation", str(valid)]
    runs = [run_once(command) for _ in range(REPEATS)]
    report = json.loads(report_path.read_text(encoding="utf-8"))
    counts = {finding["code"]: finding["count"] for finding in report["findings"]}
    missed = {code: (counts.get(code, 0), count) for code, count in planted.items() if counts.get(code, 0) < 0.99 * count}
    if missed or any(run[3] for run in runs):
        raise SystemExit(f"{name}: ended with {[run[3] for run in runs]}; found and planted: {missed}")
    seconds = [run[0] for run in runs]
    size = (path.stat().st_size + (0 if valid is None else valid.stat().st_size)) / MEGABYTE
    results[name] = {
        "megabytes": round(size, 1),
        "rows": report["num_rows"],
        "seconds": median(seconds),
        "spread": spread(seconds),
        "processor_seconds": median([run[1] for run in runs]),
        "mb_per_second": median([size / s for s in seconds], 1),
        "peak_rss_mb": round(max(run[2] for run in runs)),
        "checks": len(report["checks"]),
        "skipped": sorted(report["skipped"]),
        "found": counts,
        "planted": planted,
    }
    results[f"copying: {name}"] = {"seconds": round(copy_seconds(path), 3)}


def main() -> None:
    """Measure and record."""
    load = os.getloadavg()[0]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        path, valid = Path(folder) / "chat.jsonl", Path(folder) / "valid.jsonl"
        planted = make_talks(path, valid)
        examine("the words of a language, with a validation file", path, valid, planted, results)
        make_file(path)
        examine("the file of the check", path, None, {}, results)
    results["target"] = {"seconds": TARGET_SECONDS, "peak_rss_mb": TARGET_MB}
    results["load average at the start"] = round(load, 2)
    record("data-doctor", results)


if __name__ == "__main__":
    main()
