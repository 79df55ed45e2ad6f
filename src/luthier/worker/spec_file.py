"""``spec.json`` in the run folder: every decided number, written once by the first attempt, read by the later ones.

What it does not: decide (``training/resolve.py``). Called by ``worker/pipelines.py``.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

from luthier.core.specs import Decision, TrainingSpec, spec_from_dict
from luthier.storage.durability import sync_folder

SPEC_FILE = "spec.json"


def read_spec(run_dir: Path) -> tuple[TrainingSpec, tuple[Decision, ...]] | None:
    """The run's spec and why each number is what it is; None when this is the first attempt."""
    path = run_dir / SPEC_FILE
    if not path.exists():
        return None
    plain = json.loads(path.read_text(encoding="utf-8"))
    return spec_from_dict(plain["spec"]), tuple(Decision(**d) for d in plain["decisions"])


def write_spec(run_dir: Path, spec: TrainingSpec, decisions: tuple[Decision, ...]) -> None:
    """Write the spec so that it is whole on disk or not there."""
    path = run_dir / SPEC_FILE
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"spec": spec.to_dict(), "decisions": [asdict(d) for d in decisions]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(run_dir)
