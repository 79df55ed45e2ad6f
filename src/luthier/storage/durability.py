"""Making a created or renamed file's name survive power loss.

What it does not: sync the file's own bytes. Called by ``database`` and ``blobs``.
"""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
