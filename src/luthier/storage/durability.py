"""Making a created or renamed file's name survive power loss, and saying it in the house's words when the disk is full.

What it does not: sync the file's own bytes. Called by ``database``, ``blobs`` and ``parts``.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luthier.core.errors import StorageFull


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Around writes to files.

    Raises:
        StorageFull: the disk, or the user's share of it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("The disk is full; the file was not stored.") from error
        raise
