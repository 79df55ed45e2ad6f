"""LoRA on a GPU: our trainer beside peft + transformers and Unsloth, on the shapes of Qwen3-0.6B and Qwen3-8B with random weights.

Rows, batches, adapter, optimizer and numbers are the same on both sides; the losses of the same steps are compared before the speed
is believed. The first rival is a plain loop over peft and transformers with bf16, SDPA and the fused AdamW, in three settings: padded
batches, batches of rows of like length, and those with gradient checkpointing where the others do not fit; it takes the largest
micro-batch that fits. The second is Unsloth under the same loop, in a process of its own (`gpu_unsloth`), where it is installed.
Run: ``python -m benchmarks.bench_gpu_training [--shapes 0.6b 8b] [--rivals unsloth peft] [--out FILE]``; needs CUDA. ``--smoke`` runs
ours and peft on tiny shapes on a CPU, so that the script cannot rot.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_unsloth
from benchmarks.gpu_rival import ALPHA, BATCH, RANK, RATE, SEED, clean, rival_steps, rows, summary
from luthier.core.settings import PACKAGE_DIR
from luthier.core.specs import Schedule, TrainingSpec, TuningMethod
from luthier.models.device import prepare_device
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import BaseMeasured, EpochDone, ReferenceScored, ResumeSaved, StepDone
from luthier.training.loop import Trainer

SHAPES: dict[str, dict[str, int]] = {
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8},
    "smoke": {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
}
VOCAB = 151_936
OURS = ("ours", "ours compiled")
"""Of the 8B shape the second is left out: compiling takes longer than the steps."""
RIVALS = (("peft padded", False, False), ("peft like lengths", True, False), ("peft checkpointing", True, True))
"""Name, rows of like length side by side, gradient checkpointing."""


def build(shape: str, folder: Path, device: str) -> Path:
    """A random Qwen3 of this shape in Hugging Face's format, bfloat16."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    tied, small = shape != "8b", shape == "smoke"
    sizes: Any = SHAPES[shape]
    config = Qwen3Config(
        vocab_size=1024 if small else VOCAB,
        head_dim=16 if small else 128,
        max_position_embeddings=4096,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        **sizes,
    )
    torch.manual_seed(SEED)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="40GB")
    # Nothing here reads text; a model folder without a tokenizer is refused.
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PACKAGE_DIR / "models" / "builtin" / "luthier-mini" / name, folder / name)
    return folder


def spec_of(data: Prepared, device: str) -> TrainingSpec:
    """One epoch of LoRA with constant rate."""
    steps = -(-len(data.examples) // BATCH)
    return TrainingSpec(
        method=TuningMethod.LORA,
        n_epochs=1,
        batch_size=BATCH,
        learning_rate_multiplier=1.0,
        learning_rate=RATE,
        lora_rank=RANK,
        lora_alpha=float(ALPHA),
        warmup_steps=1,
        steps_per_epoch=steps,
        total_steps=steps,
        max_length=4096,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        seed=SEED,
        num_threads=torch.get_num_threads(),
        validation_every=10,
        base="bench",
        base_revision="bench",
        dataset_fingerprint="bench",
        validation_fingerprint=None,
        device=device,
        precision="bfloat16",
        schedule=Schedule.CONSTANT,
    )


class Log:
    """The trainer's hooks: keeps steps."""

    def __init__(self) -> None:
        self.steps: list[StepDone] = []

    def base_measured(self, report: BaseMeasured) -> None:
        """Not measured here."""

    def reference_scored(self, report: ReferenceScored) -> None:
        """Only runs on pairs have a reference."""

    def step_done(self, report: StepDone) -> None:
        """Keep."""
        self.steps.append(report)

    def epoch_done(self, report: EpochDone) -> None:
        """Nothing."""

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def resume_saved(self, report: ResumeSaved) -> None:
        """Nothing."""

    def happened(self, news: object) -> None:
        """Print it: no step of this may be out of the ordinary."""
        print(news)

    def should_stop(self) -> bool:
        """Never."""
        return False


def ours(folder: Path, data: Prepared, device: str, *, compiled: bool) -> dict[str, Any]:
    """Our trainer, whole: metrics, clipping, resume states and all."""
    prepare_device(device)
    model = load_model(folder, device=device, dtype=torch.bfloat16)
    model.compiled = compiled
    log = Log()
    with tempfile.TemporaryDirectory() as state:
        Trainer(model, spec_of(data, device), data, None, log, Path(state)).run()
    tokens = [sum(data.examples[line - 1].num_tokens for line in step.lines) for step in log.steps]
    return summary([s.seconds for s in log.steps], tokens, [s.loss for s in log.steps], device)


class Rival:
    """peft over transformers, its base read once for all settings."""

    def __init__(self, folder: Path, device: str) -> None:
        """Read the base."""
        from transformers import AutoModelForCausalLM

        base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa")
        self.base, self.device = base.to(device), device

    @contextmanager
    def adapted(self, *, checkpointing: bool) -> Iterator[Any]:
        """With a fresh adapter that trains."""
        from peft import LoraConfig, get_peft_model

        if checkpointing:
            self.base.gradient_checkpointing_enable()
            self.base.enable_input_require_grads()
        config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        model: Any = get_peft_model(self.base, config)
        try:
            yield model.train()
        finally:
            self.base = model.unload()
            if checkpointing:
                self.base.disable_input_require_grads()
                self.base.gradient_checkpointing_disable()

    def fitting(self, run: Callable[[Any, int], dict[str, Any]], *, checkpointing: bool) -> dict[str, Any]:
        """``run`` by the largest micro-batch that fits."""
        micro = BATCH
        while micro:
            try:
                with self.adapted(checkpointing=checkpointing) as model:
                    return {"micro_batch": micro, **run(model, micro)}
            except torch.OutOfMemoryError:
                micro //= 2
            clean(self.device)
        return {"out_of_memory": True}


def peft_side(folder: Path, data: Prepared, device: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each setting of peft over transformers and its figures."""
    rival = Rival(folder, device)
    for name, like, checkpoint in RIVALS:

        def run(model: Any, micro: int, like: bool = like) -> dict[str, Any]:
            return rival_steps(model, data, device, micro=micro, like_lengths=like)

        yield name, rival.fitting(run, checkpointing=checkpoint)


def same_losses(losses: list[float] | None, wanted: list[float] | None) -> bool:
    """Within 2 %, which batches put together otherwise are; False where one is no number."""
    pairs = list(zip(losses or (), wanted or (), strict=False))
    return bool(pairs) and all(abs(a - b) <= 0.02 * b for a, b in pairs)


def ratios(found: dict[str, dict[str, Any]]) -> None:
    """Our rates over those of the rivals whose losses are ours: the best of peft, peft as it is mostly run, the best of Unsloth."""
    for figures in found.values():
        figures["same_losses"] = same_losses(figures.get("losses"), found[OURS[0]].get("losses"))
    # What did not compute the same is fast for nothing.
    rates = {name: figures.get("tokens_per_second", 0) if figures["same_losses"] else 0 for name, figures in found.items()}
    others = {
        "ratio_to_best": max((r for n, r in rates.items() if n.startswith("peft")), default=0),
        "ratio_to_padded": rates.get("peft padded", 0),
        "ratio_to_unsloth": max((r for n, r in rates.items() if n.startswith("unsloth")), default=0),
    }
    for name in set(found) & set(OURS):
        found[name] |= {ratio: round(rates[name] / other, 2) if other else None for ratio, other in others.items()}


def measure(shape: str, num_steps: int, device: str, rivals: list[str], unsloth_seconds: float) -> dict[str, Any]:
    """All settings of one shape. Unsloth's process has the card to itself: ours is gone by then, peft's base is not yet read."""
    found: dict[str, Any] = {}

    def tell(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures
        clean(device)
        print(shape, name, json.dumps(figures), flush=True)

    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = build(shape, Path(place) / "model", device)
        clean(device)
        data = rows(num_steps * BATCH, 1000 if shape == "smoke" else 150_000, 200 if shape == "smoke" else 2048)
        for name in OURS if shape != "8b" else OURS[:1]:
            tell(name, ours(folder, data, device, compiled="compiled" in name))
        if "unsloth" in rivals:
            for name, figures in gpu_unsloth.side(folder, num_steps, device, unsloth_seconds).items():
                tell(name, figures)
        if "peft" in rivals:
            for name, figures in peft_side(folder, data, device):
                tell(name, figures)
    ratios(found)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", default=["0.6b", "8b"], choices=list(SHAPES))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rivals", nargs="*", default=["unsloth", "peft"], choices=["unsloth", "peft"])
    parser.add_argument("--unsloth-seconds", type=float, default=150.0, help="after these its settings so far count")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device = "cpu" if arguments.smoke else "cuda"
    shapes, steps = (["smoke"], 6) if arguments.smoke else (arguments.shapes, arguments.steps)
    name = "cpu" if arguments.smoke else torch.cuda.get_device_name()
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "batch": BATCH, "steps": steps}
    for shape in shapes:
        results[shape] = measure(shape, steps, device, arguments.rivals, arguments.unsloth_seconds)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps({shape: {n: v.get("tokens_per_second") for n, v in results[shape].items()} for shape in shapes}, indent=1))


if __name__ == "__main__":
    main()
