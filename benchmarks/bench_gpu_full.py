"""Full tuning on a GPU: our trainer beside a plain loop over transformers, on the shape of Qwen3-0.6B with random weights.

Rows, batches and optimizer are the same on both sides, and the losses of the same steps are compared before the speed is believed. Ours
runs in mixed precision, as by itself on a GPU, and once in float32. The rival has float32 weights under autocast, its batches padded as
they come, of like lengths, and those with gradient checkpointing; and bfloat16 weights, which lose updates and are shown for their speed.
It takes the largest micro-batch that fits. Run: ``python -m benchmarks.bench_gpu_full [--out FILE]``; needs CUDA. ``--smoke`` runs
both sides on a tiny shape on a CPU, so that the script cannot rot.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_gpu_training import Log, build, same_losses, spec_of
from benchmarks.gpu_rival import BATCH, clean, rival_steps, rows, summary
from benchmarks.gpu_unsloth import fitting
from luthier.core.specs import TuningMethod
from luthier.models.device import prepare_device
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training.loop import Trainer

OURS = {"ours": "mixed", "ours float32": "float32"}
RIVALS: dict[str, tuple[torch.dtype, bool, bool]] = {
    "autocast padded": (torch.float32, False, False),
    "autocast like lengths": (torch.float32, True, False),
    "autocast checkpointing": (torch.float32, True, True),
    "bfloat16 weights": (torch.bfloat16, True, False),
}
"""Of each: its weights, rows of like length side by side, gradient checkpointing."""


def ours(folder: Path, data: Prepared, device: str, precision: str) -> dict[str, Any]:
    """Our trainer, whole: metrics, clipping and all, but for reading the base and resume states."""
    prepare_device(device, precision)
    spec = replace(spec_of(data, device), method=TuningMethod.FULL, precision=precision, lora_rank=0, lora_alpha=0.0)
    model, log = load_model(folder, device=device, dtype=torch.float32), Log()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        Trainer(model, spec, data, None, log, Path(state), resume_share=1.0).run()
    tokens = [sum(data.examples[line - 1].num_tokens for line in step.lines) for step in log.steps]
    return summary([s.seconds for s in log.steps], tokens, [s.loss for s in log.steps], device)


def rival(folder: Path, data: Prepared, device: str, name: str) -> dict[str, Any]:
    """One setting of transformers."""
    from transformers import AutoModelForCausalLM

    dtype, like_lengths, checkpointing = RIVALS[name]

    def run(micro: int) -> dict[str, Any]:
        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        model = base.to(device)
        if checkpointing:
            model.gradient_checkpointing_enable()
        return rival_steps(model.train(), data, device, micro=micro, like_lengths=like_lengths)

    return fitting(run, BATCH, lambda: clean(device))


def measure(shape: str, num_steps: int, device: str) -> dict[str, dict[str, Any]]:
    """All settings, each printed when it is there."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = build(shape, Path(place) / "model", device)
        data = rows(num_steps * BATCH, 1000 if shape == "smoke" else 150_000, 200 if shape == "smoke" else 2048)
        for name in (*OURS, *RIVALS):
            clean(device)
            found[name] = ours(folder, data, device, OURS[name]) if name in OURS else rival(folder, data, device, name)
            found[name]["same_losses"] = same_losses(found[name].get("losses"), found["ours"]["losses"])
            rate = found[name].get("tokens_per_second")
            found[name]["ours_is_faster"] = round(found["ours"]["tokens_per_second"] / rate, 2) if rate else None
            print(shape, name, json.dumps(found[name]), flush=True)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device, shape, steps = ("cpu", "smoke", 6) if arguments.smoke else ("cuda", "0.6b", arguments.steps)
    name = "cpu" if arguments.smoke else torch.cuda.get_device_name()
    results = {"device": name, "torch": torch.__version__, "batch": BATCH, "steps": steps, shape: measure(shape, steps, device)}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
