"""What rounding to bfloat16 costs in held-out loss when all weights learn: in the copies of mixed precision, and in the file that is saved.

Training in float32, in mixed precision with copies rounded to the nearest, and with dithered ones (``models/rounding.py``); each as the
weights stand after the last step, as a bfloat16 file rounded to the nearest has them, and as a dithered file has them. The embedded base's
file holds bfloat16 numbers, as those of most models do, so each weight begins on bfloat16's grid.

Run by hand from the repository's root: ``python -m experiments.mixed_rounding 1,0.3,0.1`` (shares of the automatic rate).
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from experiments.optimizer_rates import FACTS, HELD_OUT, LENGTH, NEVER, ROWS, TASKS, rows
from luthier.core.specs import Hyperparameters, options_from
from luthier.models import decoder_weights, matrix
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer
from luthier.training.resolve import resolve
from tests.support.mini import load_mini
from tests.support.trainable_model import Recorder

PRECISIONS = {"float32": ("float32", False), "mixed, nearest": ("mixed", True), "mixed, dithered": ("mixed", False)}
"""Of each: the precision, whether copies are the nearest numbers."""


def nearest(weight: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """In place of ``rounding.rounded``."""
    return weight.detach().to(dtype) if out is None else out.copy_(weight.detach())


@contextmanager
def rounding_in(module: object, *, plain: bool) -> Iterator[None]:
    """Within the block the module rounds to the nearest, if that is asked for."""
    if not plain:
        yield
        return
    with mock.patch.object(module, "rounded", nearest):
        yield


def saved_loss(model: object, valid: Prepared, *, plain: bool) -> float:
    """Held-out loss of the model that is read back from a file."""
    with tempfile.TemporaryDirectory() as folder:
        with rounding_in(decoder_weights, plain=plain):
            model.save_full(Path(folder))  # type: ignore[attr-defined]
        return measure(load_model(Path(folder)), valid).loss


def main() -> None:
    """Print a line for each task, rate and precision."""
    spec, _ = resolve(
        Hyperparameters(n_epochs=2, batch_size=4), options_from({"adapter": "full"}), replace(FACTS, num_threads=2), max_length=LENGTH
    )
    for task in TASKS:
        train, valid = rows(task, "train.jsonl", ROWS), rows(task, "valid.jsonl", HELD_OUT)
        for factor in (float(word) for word in sys.argv[1].split(",")):
            for name, (precision, plain) in PRECISIONS.items():
                hooks, model = Recorder(), load_mini()
                run = replace(spec, learning_rate=spec.learning_rate * factor, precision=precision, validation_every=NEVER)
                with tempfile.TemporaryDirectory() as folder, rounding_in(matrix, plain=plain):
                    Trainer(model, run, train, valid, hooks, Path(folder)).run()
                losses = ", ".join(f"{epoch.valid_loss:.4f}" for epoch in hooks.epochs)
                files = ", ".join(f"{saved_loss(model, valid, plain=plain):.4f}" for plain in (True, False))
                print(
                    f"{task} x {factor:g} ({run.learning_rate:.2e}) {name}: after each epoch {losses}; saved nearest, dithered {files}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
