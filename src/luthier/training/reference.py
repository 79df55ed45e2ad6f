"""Log-probabilities of whole answers under the model as it was before the first update, measured once and kept.

What it does: one pass without gradients over all rows, its progress, its result on the disk; a run that was stopped or killed goes on
behind the last piece that is whole. What it does not: use them. Format: a folder with a manifest of hashes that is written last
(``models/checkpoint.py``); no pickle. Called by ``against_reference.py``, for the objectives that have a reference.

Axis letters: R rows of all sources, one source behind the other.
"""

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from luthier.core.errors import InvalidRequest
from luthier.models.checkpoint import is_temporary, publish_folder, verify_folder
from luthier.trace.events import ReferenceScored
from luthier.training.hooks import TrainerHooks
from luthier.training.tokens import TokenSource
from luthier.training.turns import Turns

_NAME = re.compile(r"reference-(\d{9})")
_FILE = "reference.safetensors"
_KIND = "reference"
FIRST_REPORT_SECONDS = 2.0
REPORT_SECONDS = 10.0
"""How long until the pass says how far it is, and between two such reports."""

Groups = Sequence[tuple[int, Sequence[int]]]
"""The forwards of the pass: number of the source, and rows of it."""
Score = Callable[[int, Sequence[int]], tuple[np.ndarray, np.ndarray]]
"""Of some rows of a source: float32 log-probabilities (nats) and int64 greedy hits, one of each for a row."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What the pass found."""

    logps_R: np.ndarray
    """float32, nats, summed over the answer's tokens."""
    hits_R: np.ndarray
    """int64 greedy hits among these tokens."""


class ReferenceStore:
    """The pieces of one run's pass in one folder: the newest that is whole and of this run counts."""

    def __init__(self, folder: Path, identity: str, *, seconds: float = 60.0) -> None:
        """``identity``: of the run (``TrainingSpec.identity``). ``seconds``: between two pieces that are written during the pass."""
        self._folder = folder
        self._identity = identity
        self.seconds = seconds

    def latest(self, key: str) -> tuple[int, Scored] | None:
        """Forwards done and what they found, or None; torn, damaged and foreign pieces are passed over, what is torn is removed."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if is_temporary(path):
                    shutil.rmtree(path)
        for done, folder in reversed(self._pieces()):
            try:
                meta = verify_folder(folder)["meta"]
                if (meta["kind"], meta["identity"], meta["key"]) != (_KIND, self._identity, key):
                    continue
                tensors = load_file(folder / _FILE)
                return done, Scored(tensors["logps"].copy(), tensors["hits"].copy())
            except (InvalidRequest, OSError, ValueError, KeyError, TypeError, SafetensorError):
                continue
        return None

    def save(self, key: str, done: int, scored: Scored) -> None:
        """Write what is known after ``done`` forwards, then remove the pieces before it.

        Raises:
            StorageFull, OSError: it cannot be written.
        """

        def fill(folder: Path) -> None:
            save_file({"logps": scored.logps_R, "hits": scored.hits_R}, folder / _FILE)

        final = self._folder / f"reference-{done:09d}"
        publish_folder(final, fill, {"kind": _KIND, "identity": self._identity, "key": key})
        for number, folder in self._pieces():
            if number != done:
                shutil.rmtree(folder)

    def _pieces(self) -> list[tuple[int, Path]]:
        if not self._folder.is_dir():
            return []
        return sorted((int(match[1]), path) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name)))


def score_reference(
    sources: Sequence[TokenSource],
    groups: Groups,
    score: Score,
    *,
    total: int,
    store: ReferenceStore,
    hooks: TrainerHooks,
    clock: Callable[[], float] = time.monotonic,
) -> Turns[Scored | None]:
    """Run the pass, or what is left of it, in turns of one forward.

    Args:
        sources: the rows.
        groups: the forwards, in order.
        score: one forward.
        total: examples of which the owner is told; the rows are their own, and maybe others that belong to them.
        store: where the values are kept.
        hooks: told how far it is, and asked whether to stop.
        clock: seconds.

    Returns:
        The values, or None when it was stopped; what was done until then is on the disk.
    """
    offsets = np.cumsum([0, *(len(source.examples) for source in sources)])
    key = _key(offsets.tolist(), groups)
    found = store.latest(key)
    done, scored = found if found is not None else (0, Scored(np.zeros(offsets[-1], np.float32), np.zeros(offsets[-1], np.int64)))
    began = told = saved = clock()
    told += FIRST_REPORT_SECONDS - REPORT_SECONDS

    def report(groups_done: int, *, reused: bool) -> None:
        examples = total * sum(len(rows) for _, rows in groups[:groups_done]) // int(offsets[-1])
        hooks.reference_scored(ReferenceScored(done=examples, total=total, seconds=clock() - began, reused=reused))

    if done == len(groups):
        report(done, reused=True)
        return scored
    for at, (number, rows) in enumerate(groups[done:], start=done):
        if hooks.should_stop():
            yield partial(store.save, key, at, scored)
            return None
        places = offsets[number] + np.asarray(rows, dtype=np.int64)
        scored.logps_R[places], scored.hits_R[places] = score(number, rows)
        now = clock()
        if now - told >= REPORT_SECONDS and at + 1 < len(groups):
            told = now
            report(at + 1, reused=False)
        if now - saved >= store.seconds:
            saved = now
            yield partial(store.save, key, at + 1, scored)
        yield None
    yield partial(store.save, key, len(groups), scored)
    report(len(groups), reused=False)
    return scored


def _key(offsets: Sequence[int], groups: Groups) -> str:
    """How the rows are cut into forwards decides the last bits: values of another cut are not gone on with."""
    plain = [list(offsets), [[number, list(rows)] for number, rows in groups]]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
