"""Keeps freed memory with the process, so that the next step need not ask the kernel for it page by page.

Full tuning of the embedded base at batch size 1 spends a seventh of its time on that otherwise (experiments/LOG.md). Called by
``loop.py``, in a process that only trains, and by ``pretraining/train.py``.
"""

import ctypes
import ctypes.util

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of glibc's malloc.h."""
_KEEP_BYTES = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Tell glibc's allocator to give nothing back until the process ends; elsewhere than on glibc this does nothing."""
    name = ctypes.util.find_library("c")
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
