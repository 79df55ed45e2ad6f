"""Held-out loss of the embedded base with an adapter, by optimizer, share of AdamW's rate and kind of adapter.

From it come the numbers of ``rates.OPTIMIZER_FACTORS``, and that DoRA has LoRA's rates.

Run by hand from the repository's root: ``python -m experiments.optimizer_rates lion 0.4,0.7,1`` or ``... adamw 0.5,1,2 dora``.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from luthier.chat.renderer import Renderer
from luthier.core.specs import Hyperparameters, OptimizerName, options_from
from luthier.data.stage import collect
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.loop import Trainer
from luthier.training.rates import OPTIMIZER_FACTORS
from luthier.training.resolve import RunFacts, resolve
from tests.support.mini import MINI, load_mini
from tests.support.trainable_model import Recorder

TASKS = ("sentiment-label", "extract-json")
ROWS, HELD_OUT, LENGTH = 160, 40, 256
NEVER = 10**6
FACTS = RunFacts(
    num_examples=ROWS,
    num_parameters=8_500_000,
    base="luthier-mini",
    base_revision="r",
    dataset_fingerprint="d",
    validation_fingerprint=None,
    seed=1,
    num_threads=1,
)
"""Of the embedded base and the rows below."""


def rows(task: str, name: str, count: int) -> Prepared:
    """The first rows of an example's file as tokens."""
    path = Path("examples") / task / name
    whole = collect("file", path, role="training", max_line_bytes=1 << 20, sha256="")
    part = replace(whole, examples=whole.examples[:count], num_lines=count)
    return prepare(part, Renderer.load(MINI), max_length=LENGTH, role="training")


def main() -> None:
    """Print one line for each task and factor."""
    optimizer, factors = OptimizerName(sys.argv[1]), [float(word) for word in sys.argv[2].split(",")]
    adapter = sys.argv[3] if len(sys.argv) > 3 else "lora"
    asked = Hyperparameters(n_epochs=2, batch_size=4)
    spec, _ = resolve(asked, options_from({"optimizer": optimizer.value, "adapter": adapter}), FACTS, max_length=LENGTH)
    for task in TASKS:
        train, valid = rows(task, "train.jsonl", ROWS), rows(task, "valid.jsonl", HELD_OUT)
        for factor in factors:
            rate = spec.learning_rate / OPTIMIZER_FACTORS[optimizer] * factor
            hooks = Recorder()
            with tempfile.TemporaryDirectory() as folder:
                Trainer(load_mini(), replace(spec, learning_rate=rate, validation_every=NEVER), train, valid, hooks, Path(folder)).run()
            losses = ", ".join(f"{epoch.valid_loss:.3f}" for epoch in hooks.epochs)
            print(f"{task} {adapter} {optimizer.value} x {factor:g}: rate {rate:.2e}, held-out loss after each epoch {losses}", flush=True)


if __name__ == "__main__":
    main()
