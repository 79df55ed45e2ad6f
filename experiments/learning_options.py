"""Held-out loss of the embedded base with an adapter, under noise on its embeddings and with prompts in the loss.

Run by hand from the repository's root: ``python -m experiments.learning_options extract-json '{}' '{"neftune_alpha": 5}'``.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from experiments.optimizer_rates import FACTS, HELD_OUT, NEVER, ROWS, rows
from luthier.core.specs import Hyperparameters, options_from
from luthier.training.loop import Trainer
from luthier.training.resolve import resolve
from tests.support.mini import load_mini
from tests.support.trainable_model import Recorder

SEEDS = (1, 2, 3)


def main() -> None:
    """Print one line for each set of options: the mean over seeds after each epoch, and their spread after the last."""
    task, options = sys.argv[1], [json.loads(text) for text in sys.argv[2:]]
    train, valid = rows(task, "train.jsonl", ROWS), rows(task, "valid.jsonl", HELD_OUT)
    for asked in options:
        ends: list[list[float]] = []
        for seed in SEEDS:
            spec, _ = resolve(Hyperparameters(n_epochs=3, batch_size=4), options_from(asked), replace(FACTS, seed=seed), max_length=256)
            hooks = Recorder()
            with tempfile.TemporaryDirectory() as folder:
                Trainer(load_mini(), replace(spec, validation_every=NEVER), train, valid, hooks, Path(folder)).run()
            ends.append([epoch.valid_loss or 0.0 for epoch in hooks.epochs])
        means = ", ".join(f"{mean(losses):.4f}" for losses in zip(*ends, strict=True))
        print(f"{task} {asked or 'plain'}: held-out loss {means}; spread {stdev(end[-1] for end in ends):.4f}", flush=True)


if __name__ == "__main__":
    main()
