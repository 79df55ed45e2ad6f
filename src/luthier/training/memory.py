"""The memory of the training process: kept for the next step when it is freed, given back now and then by a process of many runs, and how
much it was at most.

Full tuning of the embedded base at batch size 1 spends a seventh of its time on asking the kernel for memory page by page otherwise
(experiments/LOG.md). Called by ``loop.py`` and ``dry_run.py``, in processes that only train, by ``worker/floor.py``,
``worker/forecasting.py`` and ``pretraining/train.py``.
"""

import ctypes
import ctypes.util
import resource
import sys
import time
from pathlib import Path
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Names of glibc's malloc.h."""
_KEEP_BYTES = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Tell glibc's allocator to give nothing back until the process ends; elsewhere than on glibc this does nothing."""
    _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_BYTES))


def share_one_heap() -> None:
    """Tell glibc's allocator, before there are threads, that all of them use one heap: what one frees another can have."""
    _mallopt((_M_ARENA_MAX, 1))


class LeftOver:
    """What is free within the heap, given back to the system so seldom that taking it again costs half a per cent of the time at most.

    Runs of other sizes in turns, with what stays between them, leave holes all over a heap that only gives back its end. Elsewhere than on
    glibc this does nothing.
    """

    _PAUSE, _PAUSE_PER_BYTE = 5.0, 50e-9
    """Seconds: at least, and for each byte that was given back, which takes about 0.2 ns to take again."""

    def __init__(self) -> None:
        self._trim = _of_libc("malloc_trim")
        self._next = time.monotonic() + self._PAUSE

    def give_back(self) -> None:
        """If it is time."""
        now = time.monotonic()
        if self._trim is None or now < self._next:
            return
        before = resident_bytes()
        self._trim(ctypes.c_size_t(0))
        self._next = now + max(self._PAUSE, self._PAUSE_PER_BYTE * (before - resident_bytes()))


def _mallopt(*options: tuple[int, int]) -> None:
    mallopt = _of_libc("mallopt")
    if mallopt is not None:
        for option, value in options:
            mallopt(option, value)


def _of_libc(function: str) -> Any:
    """None where the C library has no such thing."""
    name = ctypes.util.find_library("c")
    return getattr(ctypes.CDLL(name), function, None) if name else None


def peak_resident_bytes() -> int:
    """Largest resident memory of this process since it began or was forked."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """Resident memory of this process now; elsewhere than on Linux its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return peak_resident_bytes()
    return pages * resource.getpagesize()
