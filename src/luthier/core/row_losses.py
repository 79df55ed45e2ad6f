"""The mean loss of each training line in each epoch: one small file per epoch in the run folder.

What it does: the file's layout, written by the workshop (``training/row_losses.py``), read by the office (``api/row_losses.py``).
What it does not: measure, or know a job. A file is complete or not there.
"""

import os
import re
from pathlib import Path

import numpy as np

from luthier.core.errors import NotFound

FOLDER = "row_losses"
ROW = np.dtype([("line", "<i4"), ("tokens", "<i4"), ("loss", "<f4")])
"""Line of the training file; its trained tokens; mean loss over them, nats, each token times its weight, as the epoch's step had it."""
_NAME = re.compile(r"epoch-(\d{6})\.npy")


def write_epoch(run_dir: Path, epoch: int, rows: np.ndarray) -> None:
    """Write an epoch's rows (dtype ``ROW``), over what an earlier attempt wrote of it."""
    folder = run_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"epoch-{epoch:06d}.npy"
    temporary = final.with_suffix(".new")
    with temporary.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(final)


def known_epochs(run_dir: Path) -> list[int]:
    """The epochs that have a file, in order."""
    folder = run_dir / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def read_epoch(run_dir: Path, epoch: int) -> np.ndarray:
    """The rows of an epoch, by line.

    Raises:
        NotFound: there is no such file.
    """
    try:
        return np.load(run_dir / FOLDER / f"epoch-{epoch:06d}.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise NotFound(f"No row losses of epoch {epoch} are known.", param="epoch") from error
