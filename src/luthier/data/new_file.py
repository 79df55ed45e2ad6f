"""A new file appears whole or not at all, and never in place of another one.

What it does: writes beside the final name and puts the file there at the end. What it does not: know what is written. Called
by ``import_rows.py``, ``export_rows.py``, ``repair.py`` and ``split.py``.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from luthier.core.errors import InvalidRequest


def refuse_existing(path: Path) -> None:
    """Say that a file is there already.

    Raises:
        InvalidRequest: it exists, or its folder does not.
    """
    if path.exists() or path.is_symlink():
        raise InvalidRequest(f"{path} exists already, and nothing is ever overwritten. Choose another name, or move it away.")
    if not path.parent.is_dir():
        raise InvalidRequest(f"The folder {path.parent} does not exist.")


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name when the block ends well; an error in the block leaves nothing behind.

    Raises:
        InvalidRequest: the name is taken, or its folder does not exist.
    """
    with new_files(path) as (file,):
        yield file


@contextmanager
def new_files(*paths: Path) -> Iterator[tuple[BinaryIO, ...]]:
    """Open files that get their names together: all of them when the block ends well, else none.

    Raises:
        InvalidRequest: a name is taken, or its folder does not exist.
    """
    for path in paths:
        refuse_existing(path)
    halves = [path.with_name(f".{path.name}.part") for path in paths]
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(half.open("wb")) for half in halves)
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        _name(halves, paths)
    finally:
        for half in halves:
            half.unlink(missing_ok=True)


def _name(halves: Sequence[Path], paths: Sequence[Path]) -> None:
    renamed: list[Path] = []
    try:
        for half, path in zip(halves, paths, strict=True):
            try:
                os.link(half, path)  # unlike a rename, a link refuses a name that was taken meanwhile
            except OSError:
                refuse_existing(path)
                half.rename(path)  # a disk without links
                renamed.append(path)
    except BaseException:  # Ctrl-C between two of them too
        for half, path in zip(halves, paths, strict=True):
            if path in renamed or (path.exists() and half.exists() and path.samefile(half)):
                path.unlink(missing_ok=True)
        raise
