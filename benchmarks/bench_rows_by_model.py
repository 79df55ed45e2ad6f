"""``luthier data show`` and ``luthier data losses`` with the embedded base on a chat file of 100 MB: seconds, rows and tokens.

Run: ``python -m benchmarks.bench_rows_by_model``. The file is that of ``bench_data_check.py``. The machine's load is recorded.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_data_check import MEGABYTE, ROWS, make_file, processor_seconds
from benchmarks.measured import median, record, spread

REPEATS = 5
TARGET_SHOW_SECONDS = 1.0
TARGET_LOSSES_SECONDS = 30.0


def _timed(*arguments: str) -> tuple[float, float, str]:
    """Seconds and processor seconds of one command, and what it printed."""
    used, started = processor_seconds(), time.perf_counter()
    command = [sys.executable, "-m", "luthier.cli.main", "data", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, processor_seconds() - used, done.stdout


def main() -> None:
    """Measure and record."""
    results: dict[str, Any] = {"load average at the start": round(os.getloadavg()[0], 2)}
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        path = Path(folder) / "chat.jsonl"
        make_file(path)
        results["megabytes"], results["rows"] = round(path.stat().st_size / MEGABYTE, 1), ROWS
        for name, line in (("show the first row", 1), ("show the last row", ROWS)):
            runs = [_timed("show", str(path), f"--line={line}", f"--data-dir={folder}") for _ in range(REPEATS)]
            seconds = [run[0] for run in runs]
            results[name] = {
                "seconds": median(seconds),
                "spread": spread(seconds),
                "processor_seconds": median([run[1] for run in runs]),
            }
        seconds, used, printed = _timed("losses", str(path), "--json", f"--data-dir={folder}")
        report = json.loads(printed)
        statistics = report["statistics"]
        results["losses"] = {
            "seconds": round(seconds, 2),
            "processor_seconds": round(used, 2),
            "rows_measured": statistics["num_measured"],
            "rows_per_second": round(statistics["num_measured"] / report["seconds"], 1),
            "trained_tokens_per_second": round(statistics["num_tokens"] / report["seconds"]),
        }
    results["target"] = {"show, seconds": TARGET_SHOW_SECONDS, "losses, seconds": TARGET_LOSSES_SECONDS}
    results["load average at the end"] = round(os.getloadavg()[0], 2)
    record("rows-by-model", results)


if __name__ == "__main__":
    main()
