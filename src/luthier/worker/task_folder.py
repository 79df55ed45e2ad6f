"""A dataset task's folder in the data directory: findings, log, and, while it lasts, the work.

What it does not: know what stands in it. Called by ``dataset_work.py`` and ``data_lane.py``.
"""

import shutil
from pathlib import Path

WORK_FOLDER = "work"
"""Holds whatever an attempt writes; gone at its end."""


def fresh_work(folder: Path) -> Path:
    """An empty place for an attempt's files."""
    clear_work(folder)
    work = folder / WORK_FOLDER
    work.mkdir(parents=True)
    return work


def clear_work(folder: Path) -> None:
    """Remove what an attempt wrote, one that was killed too."""
    shutil.rmtree(folder / WORK_FOLDER, ignore_errors=True)
