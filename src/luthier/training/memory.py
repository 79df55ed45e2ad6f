"""The memory of the training process: kept for the next step when it is freed, and how much it was at most.

Full tuning of the embedded base at batch size 1 spends a seventh of its time on asking the kernel for memory page by page otherwise
(experiments/LOG.md). Called by ``loop.py`` and ``dry_run.py``, in processes that only train, by ``pretraining/train.py`` and by
``worker/forecasting.py``.
"""

import ctypes
import ctypes.util
import resource
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Names of glibc's malloc.h."""
_KEEP_BYTES = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Tell glibc's allocator to give nothing back until the process ends; elsewhere than on glibc this does nothing."""
    _mallopt((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _KEEP_BYTES))


def share_one_heap() -> None:
    """Tell glibc's allocator, before there are threads, that all of them use one heap: what one frees another can have."""
    _mallopt((_M_ARENA_MAX, 1))


def _mallopt(*options: tuple[int, int]) -> None:
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:
        for option, value in options:
            mallopt(option, value)


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
