"""A bound on what a process may take, for work whose input decides how much that would be.

What it does: sets the limit; what asks for more gets a ``MemoryError``. What it does not: choose the work. Called by ``data_child.py``
and ``prepare_data.py`` before an import.
"""

import resource
from pathlib import Path

IMPORT_MEMORY_BYTES = 3 << 30
"""What an import may take beside what the process has at its start. A table of a few kilobytes can hold cells of gigabytes."""


def bound_memory(more_bytes: int) -> None:
    """Let this process's private memory grow by no more than this: what asks for more gets a ``MemoryError``. Linux only."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return
    taken = int(fields[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
