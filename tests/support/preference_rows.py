"""Random pairs of answers as tokens, and a decided spec for learning from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from luthier.core.examples import SourceLine
from luthier.core.specs import ObjectiveKind, TrainingSpec, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.preprocessing.stage import Prepared
from luthier.training.attach import ADAPTER_NAME
from tests.support.trainable_model import TrainableModel, spec_for


def pairs(count: int = 21, *, vocab_size: int = 20, seed: int = 3) -> Prepared:
    """Prompts of 1 to 5 tokens, each with two answers of 1 to 4: the first of each pair is the preferred one."""
    rng = np.random.default_rng(seed)
    rows = []
    for line in range(1, count + 1):
        prompt = rng.integers(1, vocab_size, size=int(rng.integers(1, 6)))
        for _ in range(2):
            answer = rng.integers(1, vocab_size, size=int(rng.integers(1, 5)))
            weights = np.concatenate([np.zeros(len(prompt)), np.ones(len(answer))]).astype(np.float32)
            rendered = Rendered(ids_T=np.concatenate([prompt, answer]), weights_T=weights)
            rows.append(TokenizedExample(source=SourceLine("file-A", line), rendered=rendered))
    return Prepared(
        examples=tuple(rows),
        num_tokens=sum(row.num_tokens for row in rows),
        num_trained=sum(row.rendered.num_trained for row in rows),
        num_truncated=0,
        num_rows=count,
        rows_per_example=2,
    )


def pair_spec(
    source: Prepared,
    *,
    method: TuningMethod = TuningMethod.LORA,
    epochs: int = 3,
    batch_size: int = 4,
    rate: float = 0.5,
    beta: float = 0.1,
    objective: ObjectiveKind = ObjectiveKind.DPO,
) -> TrainingSpec:
    """As ``spec_for``, by DPO or another loss on pairs."""
    steps = -(-source.num_examples // batch_size)
    spec = spec_for(source, method=method, epochs=epochs, batch_size=batch_size, rate=rate)
    return replace(spec, objective=objective, beta=beta, steps_per_epoch=steps, total_steps=steps * epochs)


def parent_adapter(folder: Path) -> Path:
    """A saved adapter for a ``TrainableModel`` that changes its answers."""
    folder.mkdir()
    model = TrainableModel()
    model.add_adapter(ADAPTER_NAME, rank=4, alpha=8.0, seed=5)
    left, right = model.adapter_parameters(ADAPTER_NAME)
    right.data += 0.3 * torch.randn(right.shape, generator=torch.Generator().manual_seed(6))
    torch.save([left.detach(), right.detach()], folder / "parts.pt")
    return folder
