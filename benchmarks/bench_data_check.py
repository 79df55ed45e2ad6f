"""``luthier data check`` of a chat file of 100 MB: seconds, processor time and memory of its processes, sound and with faults.

Run: ``python -m benchmarks.bench_data_check``. Both files are made from a fixed seed. Copying the same bytes is timed beside it,
and the machine's load is recorded: a busy neighbour shows in both.
"""

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import psutil

from benchmarks.measured import median, record, spread

ROWS = 120_000
REPEATS = 3
FAULT_EVERY = 100
TARGET_SECONDS = 4.0
TARGET_MB = 200.0
MEGABYTE = 1e6
_SENTENCE = (
    "the answer to this question depends on what you mean by it: a short reply, or café, naïve and “quoted” words; see line 7, "
    "then check that every number adds up before the report goes out to all readers in the morning"
)


def make_file(path: Path, *, fault_every: int = 0) -> None:
    """A chat file: system, then two or three turns; every nth row lacks a role when faults are asked for."""
    draw = random.Random(20261126)

    words = _SENTENCE.split()

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(low, high)))

    with path.open("wb") as file:
        for number in range(ROWS):
            messages: list[dict[str, Any]] = [{"role": "system", "content": text(11, 17)}]
            for _ in range(draw.choice((2, 2, 3))):
                messages += [{"role": "user", "content": text(11, 23)}, {"role": "assistant", "content": text(23, 39)}]
            if fault_every and number % fault_every == 0:
                del messages[-1]["role"]
            file.write(orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE))


def processor_seconds() -> float:
    """Processor time of all processes that this one has started and waited for, theirs included."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_once(arguments: Sequence[str]) -> tuple[float, float, float, int]:
    """Of a ``luthier`` command: seconds, processor seconds, most memory of its processes together in MB, and its exit code."""
    command = [sys.executable, "-m", "luthier.cli.main", *arguments]
    peak = 0.0
    used, started = processor_seconds(), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, done = psutil.Process(process.pid), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            try:
                sizes = [p.memory_info().rss for p in (watched, *watched.children(recursive=True))]
            except psutil.NoSuchProcess:
                continue
            peak = max(peak, sum(sizes) / MEGABYTE)

    thread = threading.Thread(target=watch)
    thread.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    done.set()
    thread.join()
    return seconds, processor_seconds() - used, peak, code


def copy_seconds(path: Path) -> float:
    """Seconds to read and write the file's bytes on this disk."""
    started = time.perf_counter()
    shutil.copyfile(path, path.with_suffix(".copy"))
    return time.perf_counter() - started


def main() -> None:
    """Measure and record."""
    load = os.getloadavg()[0]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        for name, fault_every, expected in (("sound file", 0, 0), (f"a fault in every {FAULT_EVERY}th row", FAULT_EVERY, 5)):
            path = Path(folder) / "chat.jsonl"
            make_file(path, fault_every=fault_every)
            runs = [run_once(["data", "check", str(path)]) for _ in range(REPEATS)]
            if any(run[3] != expected for run in runs):
                raise SystemExit(f"luthier data check ended with {[run[3] for run in runs]}, not {expected}")
            seconds = [run[0] for run in runs]
            size = path.stat().st_size / MEGABYTE
            results[name] = {
                "megabytes": round(size, 1),
                "rows": ROWS,
                "seconds": median(seconds),
                "spread": spread(seconds),
                "processor_seconds": median([run[1] for run in runs]),
                "mb_per_second": median([size / s for s in seconds], 1),
                "peak_rss_mb": round(max(run[2] for run in runs)),
            }
            results[f"copying: {name}"] = {"seconds": round(copy_seconds(path), 3)}
    results["target"] = {"seconds": TARGET_SECONDS, "peak_rss_mb": TARGET_MB}
    results["load average at the start"] = round(load, 2)
    record("data-check", results)


if __name__ == "__main__":
    main()
