"""What the machine has, as far as the API process can tell without torch: processor, graphics cards, memory, disk and how it fills.

What it does: reads the system's own tables; watches the disk from call to call. What it does not: guess: what cannot be read is null.
Called by ``routes/system.py``.
"""

import os
import platform
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 30.0
_SHORTEST_SECONDS = 600.0
"""Below this nothing is said of how fast the disk fills."""
_SAMPLES = 2880
_CARD_SECONDS = 2.0
_DAY = 86_400.0


class DiskWatch:
    """The free space of one file system, looked at now and then."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._lock = threading.Lock()
        self.look()

    def look(self) -> dict[str, Any]:
        """``total``, ``free`` (bytes), and once it was watched for ten minutes ``bytes_per_day`` and, if it fills, ``seconds_to_full``."""
        usage, now = shutil.disk_usage(self._folder), self._clock()
        with self._lock:
            if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
                self._samples.append((now, usage.free))
            began, free = self._samples[0]
        taken, span = free - usage.free, now - began
        known = span >= _SHORTEST_SECONDS
        return {
            "total": usage.total,
            "free": usage.free,
            "watched_seconds": span,
            "bytes_per_day": taken / span * _DAY if known else None,
            "seconds_to_full": usage.free / (taken / span) if known and taken > 0 else None,
        }


def memory(meminfo: Path = Path("/proc/meminfo")) -> dict[str, int | None]:
    """``total`` and ``available`` bytes of the machine."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines() if ":" in line)
        return {name: int(lines[key].split()[0]) * 1024 for name, key in (("total", "MemTotal"), ("available", "MemAvailable"))}
    except (OSError, KeyError, ValueError):
        return {"total": None, "available": None}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """``name`` and ``cores``."""
    name = platform.processor() or platform.machine()
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text(encoding="utf-8").splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return {"kind": "cpu", "name": name, "cores": os.cpu_count(), "memory_total": None, "memory_free": None}


def graphics_cards() -> list[dict[str, Any]]:
    """NVIDIA's cards, by its own tool; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_CARD_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, total, free = (part.strip() for part in line.split(","))
        found.append({"kind": "gpu", "name": name, "cores": None, "memory_total": int(total) << 20, "memory_free": int(free) << 20})
    return found


def resident_bytes(statm: Path = Path("/proc/self/statm")) -> int | None:
    """Memory of this process."""
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None
