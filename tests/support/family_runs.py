"""A short training run of a tiny model, for the tests of families: the same few rows, eight steps, one seed.

What it does: runs the real trainer and keeps its losses; can kill it at a step. What it does not: compare.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from luthier.chat.renderer import Renderer
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.data.stage import collect
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from tests.support.examples import EXAMPLES
from tests.support.tiny_models import mini_folder
from tests.support.trainable_model import Recorder, spec_for

ROWS, BATCH, EPOCHS = 12, 3, 2
RATES = {TuningMethod.LORA: 1e-2, TuningMethod.FULL: 2e-3}


class Killed(Exception):
    """The process is gone."""


class Killing(Recorder):
    """Dies inside the report of one step."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step_done(self, report) -> None:
        super().step_done(report)
        if report.step == self.at:
            raise Killed


@functools.cache
def rows() -> Prepared:
    """The training rows: all tiny models share the builtin tokenizer and its template."""
    dataset = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    whole = prepare(dataset, Renderer.load(mini_folder()), max_length=64, role="training")
    examples = whole.examples[:ROWS]
    return Prepared(
        examples=examples,
        num_tokens=sum(e.num_tokens for e in examples),
        num_trained=sum(e.rendered.num_trained for e in examples),
        num_truncated=0,
    )


def spec(method: TuningMethod) -> TrainingSpec:
    """Eight steps."""
    return spec_for(rows(), method=method, epochs=EPOCHS, batch_size=BATCH, rate=RATES[method])


def train(folder: Path, method: TuningMethod, state: Path, hooks: Recorder | None = None) -> tuple[LanguageModel, Recorder]:
    """Train a freshly loaded model to the end (or until the hooks raise), from the newest state in ``state``."""
    model, recorder = load_model(folder), hooks or Recorder()
    Trainer(model, spec(method), rows(), None, recorder, state).run()
    return model, recorder


def trained_weights(model: LanguageModel, method: TuningMethod) -> Sequence[torch.Tensor]:
    """What learned."""
    return model.adapter_parameters(ADAPTER_NAME) if method is TuningMethod.LORA else model.all_parameters()
