"""What a run leaves behind: ``run.json``, small enough to be committed beside the weights, and the best weights themselves.

What it does: gather device, recipe, tokens of every part and the held-out losses from a run's own files; keep weights in bf16. What it
does not: measure. Called by ``train.py``; read by ``card.py`` and ``export.py``.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from pretraining.errors import PretrainingError
from pretraining.network import Shape

NAME = "run.json"
KEPT = "kept"


def keep_weights(
    work: Path, weights: dict[str, Tensor], shape: Shape, *, step: int, held_out: dict[str, float], manifest: dict[str, Any]
) -> None:
    """Write ``WORK/kept/weights.safetensors``: bf16, the network's own names, and in its metadata what ``export.py`` has to know."""
    folder = work / KEPT
    folder.mkdir(exist_ok=True)
    facts = {"shape": asdict(shape), "step": step, "held_out": held_out, "tokenizer_sha256": manifest["configuration"]["tokenizer_sha256"]}
    small = {name: value.detach().cpu().bfloat16().contiguous() for name, value in weights.items()}
    save_file(small, folder / "weights.part", metadata={"facts": json.dumps(facts)})
    (folder / "weights.part").replace(folder / "weights.safetensors")


def write_record(work: Path, *, device: str, recipe: dict[str, Any], manifest: dict[str, Any], steps_of_phase: list[int]) -> None:
    """Write ``WORK/run.json`` of a run whose log has its last step."""
    lines = [json.loads(line) for line in (work / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    # A run that was killed repeats the steps since its last state: the later line of a step is the one that counts.
    held_out = {line["step"]: {"tokens": line["tokens"], **line["held_out"]} for line in lines if "held_out" in line}
    tokens: Counter[str] = Counter()
    for phase, steps in zip(manifest["phases"], steps_of_phase, strict=True):
        # A whole pass is told as it was packed, what its last batch left over included; more or less of it in proportion.
        size = recipe["batch_tokens"] // phase["length"]
        passes = steps / (phase["blocks"] // size)
        for part, blocks in phase["blocks_of_part"].items():
            tokens[part] += round(blocks * phase["length"] * passes)
    last = lines[-1]
    content = {
        "device": device,
        "recipe": recipe,
        "steps": last["of"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "longest_block": max(phase["length"] for phase in manifest["phases"]),
        "tokens_of_part": dict(tokens),
        "held_out": [held_out[step] for step in sorted(held_out)],
        "steps_of_phase": dict(zip((phase["name"] for phase in manifest["phases"]), steps_of_phase, strict=True)),
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
