"""What this machine has: memory for a training process and on a GPU, its speed at one matrix product, and the energy it reports.

What it does: reads the kernel's files and asks CUDA; nothing is guessed where they say nothing. What it does not: decide what fits
(``forecasting.py`` and ``admission.py`` do). Called by these two and by ``forecast_child.py``.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.core.settings import Settings
from luthier.training.memory import resident_bytes

_SHARE = 0.9
_CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USES = ("sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory/memory.usage_in_bytes")
_CGROUP_STATS = ("sys/fs/cgroup/memory.stat", "sys/fs/cgroup/memory/memory.stat")
_NO_LIMIT = 1 << 60
"""The kernel's way to say that there is none is a number near 2^63."""
_CARD_SHARE = 0.95
"""Of a GPU's free memory; the rest is lost between the blocks that torch takes it in. An assumption."""
_CUDA_BYTES = 600_000_000
"""What CUDA and its libraries take of a GPU beside tensors, for one process: usually 0.3 to 0.6 GB. An assumption, not measured here; a
part of it is taken already when the device is asked, which is on the safe side."""


def available_memory(settings: Settings, *, root: Path = Path("/")) -> int:
    """Bytes that this process may have resident at most, what it has already included.

    As ``LUTHIER_TRAIN_MEMORY_BYTES`` says, else 90 % of what the machine or the control group has left, whichever is less. Where the
    system says neither, a number that nothing exceeds.
    """
    if settings.train_memory_bytes:
        return settings.train_memory_bytes
    free = [value for value in (_machine_free(root), _group_free(root)) if value is not None]
    return int(_SHARE * (min(free) + resident_bytes())) if free else _NO_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """A GPU's memory at one moment."""

    device: str
    """As torch writes it."""
    name: str
    total_bytes: int
    free_bytes: int
    """Nobody's: what the engine host and other processes hold is not in it."""
    held_bytes: int
    """What torch has taken for this process's tensors, whether they are still there or not."""

    @property
    def available_bytes(self) -> int:
        """What this process's tensors may take at most, what they have already included."""
        return max(0, int(_CARD_SHARE * (self.free_bytes + self.held_bytes)) - _CUDA_BYTES)

    @property
    def label(self) -> str:
        """For people: ``cuda:1 (NVIDIA H200)``."""
        return f"{self.device} ({self.name})"


def device_memory(device: str, cuda: Any = torch.cuda) -> DeviceMemory:
    """Ask a GPU. Begins CUDA in this process: not to be called where others are forked afterwards.

    Args:
        device: ``cuda`` or ``cuda:1``.
        cuda: ``torch.cuda``, or what answers like it.
    """
    facts = cuda.get_device_properties(device)
    free_bytes, _ = cuda.mem_get_info(device)
    return DeviceMemory(
        device=device,
        name=facts.name,
        total_bytes=facts.total_memory,
        free_bytes=free_bytes,
        held_bytes=cuda.memory_reserved(device),
    )


def _machine_free(root: Path) -> int | None:
    """What the kernel expects could be had without swapping."""
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group_free(root: Path) -> int | None:
    """What is left of the control group's limit; pages of files that nobody uses now can be had too."""
    for limit_name, use_name, stat_name in zip(_CGROUP_LIMITS, _CGROUP_USES, _CGROUP_STATS, strict=True):
        limit, used = _read(root / limit_name).strip(), _read(root / use_name).strip()
        if not limit.isdigit() or not used.isdigit() or int(limit) >= _NO_LIMIT:
            continue
        idle = 0
        for line in _read(root / stat_name).splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file") and value.isdigit():
                idle = int(value)
        return max(0, int(limit) - int(used) + idle)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def matrix_speed(rows: int, size: int, inner: int, *, dtype: torch.dtype = torch.float32, seconds: float = 0.05) -> float:
    """Operations per second of products (rows, inner) x (inner, size), with the threads that torch has now."""
    a, b = torch.ones(max(1, rows), max(1, inner), dtype=dtype), torch.ones(max(1, inner), max(1, size), dtype=dtype)
    torch.mm(a, b)
    began, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - began < seconds:
        torch.mm(a, b)
        count += 1
    return count * 2.0 * a.shape[0] * b.shape[0] * b.shape[1] / (time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class EnergyMark:
    """A reading of the device's energy counters, to be subtracted from a later one."""

    joules: float
    at: float
    """Of ``time.monotonic``."""


class EnergyMeter:
    """Mean power of the processor packages where the kernel lets us read their counters (RAPL), or of a graphics card."""

    def __init__(self, *, device: str = "cpu", root: Path = Path("/")) -> None:
        # Packages only: their cores and memory are counted within them.
        self._packages = sorted((root / "sys/class/powercap").glob("intel-rapl:?")) if device == "cpu" else []
        self._device = device

    def start(self) -> EnergyMark | None:
        """A reading; None where the device reports nothing."""
        joules = self._joules()
        return None if joules is None else EnergyMark(joules, time.monotonic())

    def watts_since(self, mark: EnergyMark | None) -> float | None:
        """Mean power since a reading, of the whole device with all that runs on it; None where it reports nothing."""
        if self._device.startswith("cuda"):
            return _card_watts()
        now = self._joules()
        if mark is None or now is None or now <= mark.joules:  # a counter that has wrapped tells nothing
            return None
        return (now - mark.joules) / max(1e-9, time.monotonic() - mark.at)

    def _joules(self) -> float | None:
        readings = [_read(package / "energy_uj").strip() for package in self._packages]
        if not readings or not all(reading.isdigit() for reading in readings):
            return None
        return sum(int(reading) for reading in readings) / 1e6


def _card_watts() -> float | None:
    try:
        command = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
        return float(text.split()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
