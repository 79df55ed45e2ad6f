"""One training run in this process, by the product's own stages: read, prepare, resolve, train.

What it does: what a job does with the same files, without server and database, and keeps the epochs' numbers. What it does not:
decide a number (``training/resolve.py`` does) or ask the tuned model (``generate.py``). Called by ``supervised.py`` and
``reference.py``.
"""

import os
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch._dynamo  # noqa: F401 - loaded before a job begins by the worker too (worker/preload.py)

from luthier.chat.renderer import Renderer
from luthier.core.examples import Dataset
from luthier.core.specs import Hyperparameters, LuthierOptions, TrainingSpec, TuningMethod
from luthier.data.stage import collect
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.trace.events import BaseMeasured, EpochDone, ReferenceScored, ResumeSaved, StepDone
from luthier.training.base_probe import probe_base
from luthier.training.base_rule import asks_base
from luthier.training.loop import ADAPTER_NAME, Trainer
from luthier.training.resolve import RunFacts, auto_threads, resolve, resolve_max_length

_MAX_LINE_BYTES = 1 << 20
_DIGITS = 4


class _Hooks:
    """Keeps what the tables show."""

    def __init__(self) -> None:
        self.base: BaseMeasured | None = None
        self.epochs: list[EpochDone] = []

    def base_measured(self, report: BaseMeasured) -> None:
        """Keep the base's loss."""
        self.base = report

    def reference_scored(self, report: ReferenceScored) -> None:
        """Only runs on pairs have a reference."""

    def step_done(self, report: StepDone) -> None:
        """Only epochs are kept."""

    def epoch_done(self, report: EpochDone) -> None:
        """Keep one row of the table."""
        self.epochs.append(report)

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """Nothing is published here."""

    def resume_saved(self, report: ResumeSaved) -> None:
        """Resume states are written as in a job, and thrown away with their folder."""

    def happened(self, news: object) -> None:
        """Print it: no step of this may be out of the ordinary."""
        print(news)

    def should_stop(self) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """A finished run."""

    model: LanguageModel
    adapter: str | None
    """Name of the trained adapter on ``model``; None after full tuning."""
    facts: dict[str, Any]
    """``method``, ``seed``, ``n_train``, ``n_epochs``, ``batch_size``, ``learning_rate``, ``steps``, ``threads``, ``base_loss`` and
    ``base_accuracy`` (on the held-out rows, or on training rows where there are none: ``n_valid`` 0), ``epochs``, ``seconds`` of wall
    clock and ``cpu_seconds``, both of the training alone."""


def num_threads(model: LanguageModel) -> int:
    """CPU threads by the product's rule for this model and machine."""
    return int(auto_threads(0, os.cpu_count() or 1, model.facts.num_parameters).value)


def read_dataset(path: Path, role: Literal["training", "validation"]) -> Dataset:
    """A file through the product's first stage.

    Raises:
        DataFailure: the product refuses the file.
    """
    return collect(path.name, path, role=role, max_line_bytes=_MAX_LINE_BYTES, sha256="")


def tune(
    folder: Path,
    train: Path,
    valid: Path | None,
    *,
    seed: int,
    method: TuningMethod = TuningMethod.LORA,
    hyperparameters: Hyperparameters | None = None,
) -> Tuned:
    """Train the model of ``folder`` once.

    Args:
        folder: the base model; it is not changed.
        train: JSONL file in one of the product's formats.
        valid: held-out rows, measured before the first step and after every epoch; None for none.
        seed: of order and adapter.
        method: LoRA or full.
        hyperparameters: what is not left to "auto".

    Raises:
        JobFailure: the product refuses a file, or the loss stopped being finite.
    """
    renderer, model = Renderer.load(folder), load_model(folder)
    max_length = int(resolve_max_length(None, model.facts.max_length).value)
    training = read_dataset(train, "training")
    validation = read_dataset(valid, "validation") if valid is not None else None
    prepared = prepare(training, renderer, max_length=max_length, role="training")
    held_out = prepare(validation, renderer, max_length=max_length, role="validation") if validation is not None else None
    facts = RunFacts(
        num_examples=len(prepared.examples),
        num_parameters=model.facts.num_parameters,
        base=folder.name,
        base_revision=model.facts.revision,
        dataset_fingerprint=training.fingerprint,
        validation_fingerprint=validation.fingerprint if validation is not None else None,
        seed=seed,
        num_threads=num_threads(model),
    )
    asked, options = hyperparameters or Hyperparameters(), LuthierOptions(adapter=method)
    spec, _ = resolve(asked, options, facts, max_length=max_length)
    if asks_base(asked, options, spec.objective):
        found = probe_base(model, spec, prepared, parent_adapter=None)
        spec, _ = resolve(asked, options, replace(facts, found=found), max_length=max_length)
    hooks = _Hooks()
    with tempfile.TemporaryDirectory() as state:
        began, began_cpu = time.perf_counter(), time.process_time()
        Trainer(model, spec, prepared, held_out, hooks, Path(state)).run()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    told = _facts(spec, prepared, held_out, hooks) | {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
    return Tuned(model, ADAPTER_NAME if method is TuningMethod.LORA else None, told)


def _facts(spec: TrainingSpec, train: Prepared, valid: Prepared | None, hooks: _Hooks) -> dict[str, Any]:
    assert hooks.base is not None
    epochs = [asdict(epoch) for epoch in hooks.epochs]
    return {
        "method": spec.method.value,
        "seed": spec.seed,
        "n_train": len(train.examples),
        "n_valid": len(valid.examples) if valid is not None else 0,
        "n_epochs": spec.n_epochs,
        "batch_size": spec.batch_size,
        "learning_rate": spec.learning_rate,
        "steps": spec.total_steps,
        "threads": spec.num_threads,
        "base_loss": round(hooks.base.loss, _DIGITS),
        "base_accuracy": round(hooks.base.accuracy, _DIGITS),
        "epochs": [{key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in epoch.items()} for epoch in epochs],
    }
