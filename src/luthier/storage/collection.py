"""Removing bytes that nothing names any more: blobs of deleted and expired files, and parts of uploads that are over.

What it does: asks the tables what is needed and has the rest removed. What it does not: remove rows of files; decide when
(``worker/main.py`` does: at its start and every hour).
"""

import time
from collections.abc import Callable

from luthier.core.uploads import LIFETIME_SECONDS
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.files import ORPHAN_SECONDS, referenced_blobs
from luthier.storage.parts import PartFiles
from luthier.storage.uploads import UploadStore


def collect_unneeded(database: Database, blobs: BlobStore, parts: PartFiles, clock: Callable[[], float] = time.time) -> int:
    """Remove what nobody needs.

    Returns:
        How many files were removed from the disk.

    Raises:
        Unavailable: the database is busy; nothing is lost, the next call does it.
    """
    # Bytes that no row names are left alone for a while: a request or a job may be about to name them.
    removed = blobs.collect(referenced_blobs(database, clock()), ORPHAN_SECONDS)
    uploads = UploadStore(database, clock)
    uploads.forget_expired_parts()
    return removed + parts.collect(uploads.all_part_ids(), LIFETIME_SECONDS)
