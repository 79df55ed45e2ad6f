"""Memory, speed and loss of LoRA over a base as it is and over the same base in 4 bits.

Run by hand from the repository's root, each line in a process of its own, for a peak belongs to a process:
``python -m experiments.four_bits random FOLDER`` makes a model of 129 M random parameters;
``python -m experiments.four_bits memory FOLDER none|nf4 float32|bfloat16`` trains on it;
``python -m experiments.four_bits loss none|nf4`` trains the embedded base on two examples.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from experiments.optimizer_rates import FACTS, HELD_OUT, LENGTH, NEVER, ROWS, TASKS, rows
from luthier.core.specs import Hyperparameters, options_from
from luthier.models.load import load_model
from luthier.models.nf4 import Nf4Weight
from luthier.trace.events import StepDone
from luthier.training.loop import Trainer
from luthier.training.memory import peak_resident_bytes, resident_bytes
from luthier.training.resolve import RunFacts, resolve
from tests.support.mini import MINI
from tests.support.trainable_model import Recorder

_SHAPE = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 10, "num_attention_heads": 16, "num_key_value_heads": 4}
_SETTLED = 5


def _facts(num_parameters: int) -> RunFacts:
    return replace(FACTS, num_parameters=num_parameters, base="base")


def make_random(folder: Path) -> None:
    """A Llama of no meaning, with the embedded base's tokens."""
    from tests.support.tiny_models import build

    build("llama", folder, seed=1, vocab_size=8192, tie_word_embeddings=True, head_dim=64, max_position_embeddings=1024, **_SHAPE)


def memory(folder: Path, quantization: str | None, precision: str) -> None:
    """Peak memory and seconds a step of one short run."""
    before = resident_bytes()
    if quantization is not None:
        Nf4Weight(torch.zeros(64, 64), dtype=torch.float32)  # the library's own memory is no part of the base's
    library = resident_bytes()
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = load_model(folder, dtype=dtype, quantization=quantization)
    loaded, peak_of_loading = resident_bytes(), peak_resident_bytes()
    spec, _ = resolve(Hyperparameters(n_epochs=1, batch_size=4), options_from({}), _facts(129_000_000), max_length=LENGTH)
    train, hooks = rows(TASKS[0], "train.jsonl", 48), _Clock()
    spec = replace(spec, steps_per_epoch=12, total_steps=12, warmup_steps=1, validation_every=NEVER, quantization=quantization)
    with tempfile.TemporaryDirectory() as place:
        Trainer(model, spec, train, None, hooks, Path(place)).run()
    clock = hooks.clock[_SETTLED:]
    library, model_bytes, loading, peak = (
        round((value - start) / 1e6)
        for value, start in ((library, before), (loaded, library), (peak_of_loading, library), (peak_resident_bytes(), library))
    )
    print(f"{quantization} {precision}: library {library} MB, model {model_bytes} MB, peak {loading} MB at loading, {peak} MB in the run")
    print(f"  {(clock[-1] - clock[0]) / (len(clock) - 1):.3f} s of processor time a step; last loss {hooks.steps[-1].loss:.4f}")


class _Clock(Recorder):
    """Notes the processor time at each step's end: other processes may run beside this one."""

    def __init__(self) -> None:
        super().__init__()
        self.clock: list[float] = []

    def step_done(self, report: StepDone) -> None:
        super().step_done(report)
        self.clock.append(time.process_time())


def loss(quantization: str | None) -> None:
    """Held-out loss of the embedded base before and after each epoch."""
    for task in TASKS:
        train, valid = rows(task, "train.jsonl", ROWS), rows(task, "valid.jsonl", HELD_OUT)
        options = options_from({"quantization": quantization})
        spec, _ = resolve(Hyperparameters(n_epochs=2, batch_size=4), options, _facts(8_500_000), max_length=LENGTH)
        spec, hooks = replace(spec, validation_every=NEVER), _Clock()
        with tempfile.TemporaryDirectory() as place:
            Trainer(load_model(MINI, quantization=quantization), spec, train, valid, hooks, Path(place)).run()
        after = ", ".join(f"{epoch.valid_loss:.3f}" for epoch in hooks.epochs)
        print(f"{task} {quantization}: held-out loss {hooks.base[0].loss:.3f} before, {after} after each epoch", flush=True)


def main() -> None:
    """One of the three."""
    what, *words = sys.argv[1:]
    held = {"none": None, "nf4": "nf4"}
    if what == "random":
        make_random(Path(words[0]))
    elif what == "memory":
        memory(Path(words[0]), held[words[1]], words[2])
    else:
        loss(held[words[0]])


if __name__ == "__main__":
    main()
