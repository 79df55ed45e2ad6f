"""What the benchmark scripts share: a real server to measure, medians, and the baseline file with the machine's facts.

What it does not: decide what is measured. Called by the scripts in this folder.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openai

BASELINES = Path(__file__).resolve().parent / "baselines"
READY_SECONDS = 120.0
VERSIONS_OF = ("torch", "transformers", "openai", "fastapi", "numpy")


@dataclass(slots=True, kw_only=True)
class Server:
    """A running ``luthier serve``."""

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path
    ready_seconds: float
    """From the start of the process to the first 200 of ``/readyz``."""

    @property
    def key(self) -> str:
        """The server's API key."""
        return (self.data_dir / "api_key").read_text()

    def client(self) -> openai.OpenAI:
        """The official client for this server."""
        return openai.OpenAI(base_url=self.url + "/v1", api_key=self.key, timeout=600.0, max_retries=0)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path) -> str:
    record = data_dir / "server.json"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"luthier serve ended with {process.returncode}; see its output above")
        if record.exists():
            url = json.loads(record.read_text())["url"]
            if _is_ready(url):
                return url
        time.sleep(0.01)
    raise SystemExit(f"luthier serve was not ready within {READY_SECONDS:.0f} s")


@contextmanager
def serving(prepare: Callable[[Path], None] | None = None, *, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on a free port with a temporary data directory, which ``prepare`` may fill first; stopped at the end.

    ``settings``: its environment variables beside those of this process.
    """
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as folder:
        data_dir = Path(folder) / "data"
        if prepare is not None:
            prepare(data_dir)
        command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", "0", "--data-dir", str(data_dir)]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **(settings or {})})
        try:
            url = _wait_until_ready(process, data_dir)
            yield Server(process=process, url=url, data_dir=data_dir, ready_seconds=time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(timeout=60)


def median(values: Sequence[float], digits: int = 3) -> float:
    """The median, rounded for a file that people read."""
    return round(statistics.median(values), digits)


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how quiet the machine was."""
    return round((max(values) - min(values)) / statistics.median(values), 3)


def machine() -> dict[str, Any]:
    """Processor, cores and versions: what the numbers belong to. No name of the machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in VERSIONS_OF},
    }


def record(setup: str, results: dict[str, Any]) -> None:
    """Print the results and write them to ``baselines/<cores>cpu-luthier-mini-<setup>.json``."""
    BASELINES.mkdir(exist_ok=True)
    path = BASELINES / f"{os.cpu_count()}cpu-luthier-mini-{setup}.json"
    path.write_text(json.dumps({"setup": setup, "machine": machine(), "results": results}, indent=2) + "\n")
    print(f"\n{setup}")
    for name, value in results.items():
        shown = "  ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        print(f"  {name:<28} {shown}")
    print(f"  written to benchmarks/baselines/{path.name}")
