"""Removing what nobody needs any more: blobs of deleted and expired files, parts of uploads that are over, old dataset tasks.

What it does: asks the tables what is needed and has the rest removed. What it does not: remove rows of files; decide when
(``worker/main.py`` does: at its start and every hour).
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from luthier.core.uploads import LIFETIME_SECONDS
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
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


def collect_dataset_tasks(database: Database, folder: Path, days: int, clock: Callable[[], float] = time.time) -> int:
    """Forget dataset tasks that ended more than ``days`` days ago, and remove the folders of tasks that are not there.

    Args:
        folder: holds one folder per task.
        days: 0 keeps all of them.

    Returns:
        How many folders were removed.
    """
    tasks = DatasetTaskStore(database, clock)
    if days:
        tasks.forget(clock() - days * 24 * 3600.0)
    if not folder.is_dir():
        return 0
    # The folders first: a task that is made meanwhile has its row before its folder.
    there = [path for path in folder.iterdir() if path.is_dir()]
    known = tasks.all_ids()
    gone = [path for path in there if path.name not in known]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return len(gone)
