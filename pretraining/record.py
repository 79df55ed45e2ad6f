"""What a finished run leaves behind: ``run.json``, small enough to be committed beside the weights; the card is made from it.

What it does: gather device, recipe, tokens of every part and the held-out losses from a run's own files. What it does not: measure.
Called by ``train.py`` when a run is done; read by ``card.py``.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pretraining.errors import PretrainingError

NAME = "run.json"


def write_record(work: Path, *, device: str, recipe: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Write ``WORK/run.json`` of a run whose log has its last step."""
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    # A run that was killed repeats the steps since its last state: the later line of a step is the one that counts.
    held_out = {line["step"]: {"tokens": line["tokens"], **line["held_out"]} for line in lines if "held_out" in line}
    tokens: Counter[str] = Counter()
    for phase in manifest["phases"]:
        for part, blocks in phase["blocks_of_part"].items():
            tokens[part] += blocks * phase["length"]
    last = lines[-1]
    content = {
        "device": device,
        "recipe": recipe,
        "steps": last["of"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "tokens_of_part": dict(tokens),
        "held_out": [held_out[step] for step in sorted(held_out)],
    }
    partial = work / f"{NAME}.part"
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(work / NAME)


def read_record(path: Path) -> dict[str, Any]:
    """The record of a finished run.

    Raises:
        PretrainingError: there is none.
    """
    if not path.is_file():
        raise PretrainingError(f"{path} is missing: run python -m pretraining.train to its end first.")
    return json.loads(path.read_text(encoding="utf-8"))
