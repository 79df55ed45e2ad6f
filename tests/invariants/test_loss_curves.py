"""The losses of the first steps of fixed runs, per model family, as they have been: a change of the arithmetic is seen here first.

Not bit for bit, because another processor or another torch sums in another order. Where a change is meant, run
``python -m tests.invariants.test_loss_curves`` and say in CHANGELOG.md what became different.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.core.examples import SourceLine
from luthier.core.specs import TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training.loop import Trainer
from tests.support.mini import MINI
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, spec_for

PINNED = Path(__file__).resolve().parents[1] / "golden" / "loss_curves.json"
FAMILIES = ("luthier-mini", "llama", "mistral", "qwen2", "qwen3", "gpt2")
RATES = {TuningMethod.LORA: 5e-3, TuningMethod.FULL: 1e-3}
TOLERANCE = 2e-3


def patterned_rows() -> Prepared:
    """Rows that count upwards from some token: a rule that can be learned, the same on every machine."""
    examples = []
    for line in range(1, 17):
        ids = 100 + (np.arange(6 + line % 5) * (1 + line % 3) + 11 * line) % 64
        weights = np.ones(len(ids), dtype=np.float32)
        weights[:3] = 0.0
        examples.append(TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=ids, weights_T=weights)))
    return Prepared(
        examples=tuple(examples),
        num_tokens=sum(e.num_tokens for e in examples),
        num_trained=sum(e.rendered.num_trained for e in examples),
        num_truncated=0,
    )


def curve(family: str, method: TuningMethod, place: Path) -> list[float]:
    """Losses of twelve steps, and the loss on one row after each of three epochs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)  # what transformers and peft draw
    folder = MINI if family == "luthier-mini" else build(family, place / "model")
    train, hooks = patterned_rows(), Recorder()
    spec = spec_for(train, method=method, epochs=3, rate=RATES[method])
    Trainer(load_model(folder), spec, train, None, hooks, place / "state").run()
    return [step.loss for step in hooks.steps] + [epoch.sample_loss for epoch in hooks.epochs if epoch.sample_loss is not None]


@pytest.mark.parametrize("method", list(TuningMethod))
@pytest.mark.parametrize("family", FAMILIES)
def test_the_losses_are_as_they_have_been(tmp_path: Path, family: str, method: TuningMethod) -> None:
    expected = json.loads(PINNED.read_text())[f"{family} {method.value}"]
    found = curve(family, method, tmp_path)
    assert len(found) == 15
    assert found == pytest.approx(expected, rel=TOLERANCE)
    assert found[11] < found[0], "it learns"


def main() -> None:
    """Pin what is now."""
    curves = {}
    for family in FAMILIES:
        for method in TuningMethod:
            with tempfile.TemporaryDirectory() as place:
                curves[f"{family} {method.value}"] = [round(loss, 6) for loss in curve(family, method, Path(place))]
    PINNED.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
