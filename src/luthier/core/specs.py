"""What is to be trained, fully decided. ``training/resolve.py`` makes a ``TrainingSpec``; nothing later reads a default.

The spec's hash with the data set's fingerprint and the base's revision is the identity of a run: a resume with another
identity is refused.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TuningMethod(StrEnum):
    """Which weights learn."""

    LORA = "lora"
    """Low-rank adapters beside every linear layer (Hu et al. 2021, arXiv:2106.09685); the base stays as it is."""
    FULL = "full"
    """All weights of the model."""


class ObjectiveKind(StrEnum):
    """What the weights learn from."""

    SUPERVISED = "supervised"
    """Answers to imitate: cross-entropy."""
    DPO = "dpo"
    """Pairs of answers of which one is preferred (Rafailov et al. 2023, arXiv:2305.18290)."""

    @property
    def rows_per_example(self) -> int:
        """Token rows that one line of the file becomes: two where it holds two answers."""
        return 1 if self is ObjectiveKind.SUPERVISED else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """OpenAI's, as asked: a number, or None for "auto"."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    """Of preference tuning: how dearly leaving the reference is paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuthierOptions:
    """Our own options, from ``extra_body={"luthier": {...}}``; None means: decide for me."""

    adapter: TuningMethod = TuningMethod.LORA
    rank: int | None = None
    alpha: float | None = None
    max_length: int | None = None
    skip_untrained: bool = False
    """Leave out rows of which nothing would be trained, instead of failing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Every decided number of one run."""

    method: TuningMethod
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    """Peak rate: multiplier times the base rate of the method and model size."""
    lora_rank: int
    """0 for full fine-tuning."""
    lora_alpha: float
    warmup_steps: int
    steps_per_epoch: int
    total_steps: int
    max_length: int
    """Longest example, tokens; longer ones are cut at the end."""
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    seed: int
    num_threads: int
    """CPU threads of the training process: they decide the order of sums, hence the bits."""
    validation_every: int
    """Steps between two small validation batches."""
    base: str
    """Name of the open base model that trains."""
    base_revision: str
    """Hash of the base's (and the parent adapter's) weights and tokenizer."""
    dataset_fingerprint: str
    validation_fingerprint: str | None
    device: str = "cpu"
    """Where it trains, as torch writes it; decides the bits, so a run goes on only where it began."""
    precision: str = "float32"
    """Numbers of the base's weights in memory: ``float32`` or ``bfloat16``."""
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED
    beta: float = 0.0
    """Of preference tuning; 0 for other objectives."""

    def identity(self) -> str:
        """SHA-256 over all fields; a field that has its default is left out, so that a new one does not cut older runs off."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        text = json.dumps({k: v for k, v in dataclasses.asdict(self).items() if v != defaults[k]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``spec.json``."""
        return dataclasses.asdict(self)


def spec_from_dict(plain: dict[str, Any]) -> TrainingSpec:
    """The inverse of ``TrainingSpec.to_dict``."""
    objective = ObjectiveKind(plain.get("objective", ObjectiveKind.SUPERVISED))
    return TrainingSpec(**{**plain, "method": TuningMethod(plain["method"]), "objective": objective})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Why an "auto" became this number; shown in an event."""

    name: str
    value: float | str
    reason: str
