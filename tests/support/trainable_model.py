"""A tiny model that really learns, for the trainer's tests: a table of logits by prefix, tuned whole or through a low-rank part."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from luthier.core.examples import SourceLine
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import (
    BaseMeasured,
    EpochDone,
    LossSpiked,
    ModelChosen,
    Notice,
    ReferenceScored,
    ResumeSaved,
    StepDone,
    StepSkipped,
)
from luthier.training.answers import Questions
from tests.support.fake_model import NUM_STATES, FakeModel


class TrainableModel(FakeModel):
    """``FakeModel`` whose table takes gradients. An adapter adds ``A @ B`` to the table."""

    def __init__(self, *, seed: int = 0, vocab_size: int = 20) -> None:
        super().__init__(seed=seed, vocab_size=vocab_size, max_length=64)
        self.module = nn.Module()
        self.module.table = nn.Parameter(self.table, requires_grad=False)
        self.parts: dict[str, list[nn.Parameter]] = {}
        self.in_use: str | None = None

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        table = self.module.get_parameter("table")
        self.table = table if self.in_use is None else table + self.parts[self.in_use][0] @ self.parts[self.in_use][1]
        return super().logits_at(ids_BT, lengths_B, rows_N, columns_N)

    def add_adapter(self, name: str, *, rank: int, alpha: float, seed: int, form: AdapterForm = PLAIN) -> None:
        left = torch.randn((NUM_STATES, rank), generator=torch.Generator().manual_seed(seed)) * 0.5
        self.parts[name] = [nn.Parameter(left), nn.Parameter(torch.zeros(rank, self.facts.vocab_size))]
        self.adapters[name] = 0

    def load_adapter(self, name: str, folder: Path) -> None:
        self.parts[name] = [nn.Parameter(p) for p in torch.load(folder / "parts.pt", weights_only=True)]
        self.adapters[name] = 0

    def adapter_parameters(self, name: str) -> list[nn.Parameter]:
        return self.parts[name]

    def all_parameters(self) -> list[nn.Parameter]:
        return [self.module.get_parameter("table")]

    @contextmanager
    def use_adapter(self, name: str | None) -> Iterator[None]:
        before, self.in_use = self.in_use, name
        try:
            yield
        finally:
            self.in_use = before


class PoisonedModel(TrainableModel):
    """Where a step learns from a batch with one certain row, its logits (or their gradients) are multiplied by a number."""

    def __init__(self, row: np.ndarray, factor: float = float("nan"), *, gradient: bool = False) -> None:
        super().__init__()
        self.row, self.factor, self.gradient = torch.from_numpy(row), factor, gradient

    def logits_at(self, ids_BT: Tensor, lengths_B: Tensor, rows_N: Tensor, columns_N: Tensor) -> Tensor:
        logits = super().logits_at(ids_BT, lengths_B, rows_N, columns_N)
        length = self.row.shape[0]
        hit = (
            (lengths_B == length) & (ids_BT[:, :length] == self.row).all(1)
            if ids_BT.shape[1] >= length
            else torch.zeros(1, dtype=torch.bool)
        )
        if not logits.requires_grad or not bool(hit.any()):
            return logits
        if not self.gradient:
            return logits * self.factor
        logits.register_hook(lambda grad: grad * self.factor)
        return logits


class Recorder:
    """Hooks that keep everything, and stop when ``stop_after`` steps were reported."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.base: list[BaseMeasured] = []
        self.steps: list[StepDone] = []
        self.epochs: list[EpochDone] = []
        self.checkpoints: list[tuple[int, int, dict[str, float]]] = []
        self.saves: list[ResumeSaved] = []
        self.references: list[ReferenceScored] = []
        self.news: list[StepSkipped | LossSpiked | ModelChosen] = []
        self.notices: list[Notice] = []

    def base_measured(self, report: BaseMeasured) -> Questions | None:
        self.base.append(report)

    def reference_scored(self, report: ReferenceScored) -> None:
        self.references.append(report)

    def step_done(self, report: StepDone) -> None:
        self.steps.append(report)

    def epoch_done(self, report: EpochDone) -> Questions | None:
        self.epochs.append(report)

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        self.checkpoints.append((epoch, step, metrics))

    def resume_saved(self, report: ResumeSaved) -> None:
        self.saves.append(report)

    def happened(self, news: StepSkipped | LossSpiked | ModelChosen | Notice) -> None:
        if isinstance(news, Notice):
            self.notices.append(news)
        else:
            self.news.append(news)

    def should_stop(self) -> bool:
        return self.stop_after is not None and len(self.steps) >= self.stop_after

    def numbers(self) -> list[object]:
        """All that must be equal between a straight and an interrupted run: everything but the clock and the memory."""
        return [
            self.base,
            [replace(s, seconds=0.0, tokens_per_second=None, memory_bytes=None) for s in self.steps],
            [replace(e, seconds=0.0) for e in self.epochs],
            self.checkpoints,
            self.news,
        ]


def prepared(count: int = 21, *, vocab_size: int = 20, seed: int = 3) -> Prepared:
    """Random rows of 3 to 9 tokens, the last two trained."""
    rng = np.random.default_rng(seed)
    examples = []
    for line in range(1, count + 1):
        ids = rng.integers(1, vocab_size, size=int(rng.integers(3, 10)))
        weights = np.zeros(len(ids), dtype=np.float32)
        weights[-2:] = 1.0
        examples.append(TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=ids, weights_T=weights)))
    return Prepared(examples=tuple(examples), num_tokens=sum(e.num_tokens for e in examples), num_trained=2 * count, num_truncated=0)


def spec_for(examples: Prepared, *, method: TuningMethod = TuningMethod.LORA, epochs: int = 3, batch_size: int = 4, rate: float = 0.5):
    """A decided spec for a test's rows."""
    steps = -(-len(examples.examples) // batch_size)
    return TrainingSpec(
        method=method,
        n_epochs=epochs,
        batch_size=batch_size,
        learning_rate_multiplier=1.0,
        learning_rate=rate,
        lora_rank=4,
        lora_alpha=8.0,
        warmup_steps=1,
        steps_per_epoch=steps,
        total_steps=steps * epochs,
        max_length=64,
        weight_decay=0.0,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        seed=11,
        num_threads=1,
        validation_every=3,
        base="fake",
        base_revision="fake-0",
        dataset_fingerprint="a",
        validation_fingerprint=None,
    )
