"""Resume states: everything a run needs to go on as if it had never stopped, complete on disk or not there at all.

What it does: writes copies in a thread beside the loop, keeps the newest two, finds the newest one that is whole and of the
same run. What it does not: decide when to save (``loop.py``). Format: safetensors and JSON in a folder with a manifest of
hashes that is written last; no pickle. Called by ``loop.py``.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.models.checkpoint import folder_bytes, is_temporary, publish_folder, verify_folder
from luthier.trace.events import ResumeSaved
from luthier.training.progress import Progress, progress_from_dict

_NAME = re.compile(r"resume-(\d{9})")
_TENSORS = "state.safetensors"
_PROGRESS = "progress.json"
RESUME_PAUSE = 1.0
"""Least seconds between two states that come by number of steps. A run of a few quick steps would else write one after each of them; what a
crash loses is done again in that time."""


@dataclass(frozen=True, slots=True, eq=False)
class ResumeState:
    """Where a run stood."""

    progress: Progress
    tensors: dict[str, Tensor]
    """Weights, moments and random state on the CPU; see ``optimizer.export_state`` and ``loop.py``."""


def newest_step(folder: Path) -> int:
    """The step of the newest state in ``folder`` whose files are those of its manifest; 0 when there is none.

    It reads that state once: what a job says of its resume must be what the resume then does.
    """
    return next((step for step, path in reversed(_named_states(folder)) if _is_whole(path)), 0)


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except (InvalidRequest, OSError):
        return False
    return True


def _named_states(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of all states by name, oldest first; temporary folders of a torn write have other names."""
    if not folder.is_dir():
        return []
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))


class ResumeStore:
    """The resume states of one run in one folder. Used by the training thread; it owns one writer thread at a time."""

    def __init__(self, folder: Path, identity: str, *, keep: int = 2) -> None:
        self._folder = folder
        self._identity = identity
        self._keep = keep
        self._writer: threading.Thread | None = None
        self._finished: list[ResumeSaved] = []
        self._error: Exception | None = None
        self._newest: int | None = None

    @property
    def busy(self) -> bool:
        """True while a state is being written."""
        return self._writer is not None and self._writer.is_alive()

    def latest(self) -> ResumeState | None:
        """The newest complete state of this run, or None. Torn, damaged and foreign ones are passed over.

        Removes what an interrupted write left behind; nobody else may be writing here.
        """
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if is_temporary(path):
                    shutil.rmtree(path)
        for step, folder in reversed(self._folders()):
            state = self._read(folder)
            if state is not None:
                self._newest = step
                return state
        return None

    def save(self, state: ResumeState) -> None:
        """Begin to write a state; waits for the one before. Nobody may change the tensors until it is written.

        Raises:
            StorageFull, OSError: the state before could not be written.
        """
        self.wait()
        self._raise_error()
        if state.progress.step == self._newest:
            return
        self._writer = threading.Thread(target=self._write, args=(state,), name="resume-writer")
        self._writer.start()

    def finished(self) -> list[ResumeSaved]:
        """Reports on the states that became complete since the last call.

        Raises:
            StorageFull, OSError: a state could not be written.
        """
        if not self.busy:
            self._raise_error()
        reports = list(self._finished)  # the writer may add one meanwhile
        del self._finished[: len(reports)]
        return reports

    def wait(self) -> None:
        """Return when nothing is being written any more."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _raise_error(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, state: ResumeState) -> None:
        began = time.perf_counter()
        step = state.progress.step
        final = self._folder / f"resume-{step:09d}"
        try:
            publish_folder(final, lambda folder: self._fill(folder, state), {"kind": "resume", "step": step, "identity": self._identity})
            self._newest = step
            self._finished.append(ResumeSaved(step=step, bytes=folder_bytes(final), seconds=time.perf_counter() - began))
            for _, old in self._folders()[: -self._keep]:
                shutil.rmtree(old)
        except Exception as error:  # noqa: BLE001 - a thread's edge: the training thread raises it
            self._error = error

    def _fill(self, folder: Path, state: ResumeState) -> None:
        save_file(dict(state.tensors), str(folder / _TENSORS))
        plain = {"identity": self._identity, "progress": state.progress.to_dict()}
        (folder / _PROGRESS).write_text(json.dumps(plain), encoding="utf-8")

    def _read(self, folder: Path) -> ResumeState | None:
        try:
            verify_folder(folder)
            plain: Mapping = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
            if plain["identity"] != self._identity:
                return None
            return ResumeState(progress_from_dict(plain["progress"]), load_file(str(folder / _TENSORS)))
        except (InvalidRequest, OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None

    def _folders(self) -> list[tuple[int, Path]]:
        return _named_states(self._folder)


def resume_interval(total_steps: int, share: float) -> int:
    """Steps between two resume states that come by number of steps."""
    return max(1, int(total_steps * share))
