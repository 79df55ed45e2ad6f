"""Start-up and memory: imports, ``luthier serve`` to ``/readyz`` and to the first chat, memory of each process.

Run: ``python -m benchmarks.bench_startup``.
"""

import statistics
import subprocess
import sys
import time
from typing import Any

import psutil

from benchmarks.measured import Server, median, record, serving, spread

IMPORT_REPEATS = 5
SERVE_REPEATS = 3
MODULES = ("luthier.cli.main", "luthier.api.app", "luthier.worker.main", "luthier.deployment.host")
ROLES = {"luthier.deployment.host": "engine host", "luthier.worker.main": "worker"}
MEGABYTE = 1e6


def import_seconds(module: str) -> float:
    """Wall time of one fresh interpreter that imports the module, less that of an empty one."""

    def run(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    return max(0.0, run(f"import {module}") - run("pass"))


def memory_megabytes(server: Server) -> dict[str, float]:
    """Resident set of each process of the server, by role; helpers of a role are added to it."""
    root = psutil.Process(server.process.pid)
    sizes = {"api": root.memory_info().rss / MEGABYTE}
    for child in root.children():
        role = next((name for module, name in ROLES.items() if module in child.cmdline()), "other")
        total = child.memory_info().rss + sum(p.memory_info().rss for p in child.children(recursive=True))
        sizes[role] = sizes.get(role, 0.0) + total / MEGABYTE
    return sizes


def serve_once() -> tuple[float, float, dict[str, float]]:
    """Seconds to ready, seconds to the end of the first chat after the process's start, memory by role."""
    with serving() as server:
        asked = time.monotonic()
        server.client().chat.completions.create(
            model="luthier-mini", messages=[{"role": "user", "content": "Hello"}], max_tokens=1, temperature=0
        )
        return server.ready_seconds, server.ready_seconds + time.monotonic() - asked, memory_megabytes(server)


def main() -> None:
    """Measure and record."""
    results: dict[str, Any] = {}
    for module in MODULES:
        seconds = [import_seconds(module) for _ in range(IMPORT_REPEATS)]
        results[f"import {module}"] = {"seconds": median(seconds)}
    runs = [serve_once() for _ in range(SERVE_REPEATS)]
    results["serve to ready"] = {"seconds": median([r[0] for r in runs]), "spread": spread([r[0] for r in runs])}
    results["serve to first chat"] = {"seconds": median([r[1] for r in runs]), "spread": spread([r[1] for r in runs])}
    for role in runs[0][2]:
        results[f"memory of {role}"] = {"rss_mb": round(statistics.median(r[2][role] for r in runs))}
    record("startup", results)


if __name__ == "__main__":
    main()
