"""Every family learns from pairs of answers: ln 2 at the start whatever tuning starts from, and away from there.

The reference is the same model with the new adapter off, or with the one that tuning goes on from, on whichever path the family takes;
a reference that is measured on anything else is seen here at the first step.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luthier.chat.renderer import Renderer
from luthier.core.specs import TuningMethod
from luthier.data.stage import collect
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from tests.support.mini import MINI
from tests.support.preference_rows import pair_spec
from tests.support.tiny_families import TINY, VOCAB_SIZE
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder

LORA, FULL = TuningMethod.LORA, TuningMethod.FULL
RATES = {LORA: 1e-2, FULL: 1e-3}
STEPS = 5
PAIRS = MINI.parents[4] / "examples" / "formality-dpo" / "train.jsonl"
IDS = torch.randint(32, VOCAB_SIZE, (1, 12), generator=torch.Generator().manual_seed(11))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pairs() -> Prepared:
    """Four pairs: all tiny models share the builtin tokenizer and its template."""
    data = collect("file-A", PAIRS, role="training", max_line_bytes=1 << 20, sha256="", method="dpo")
    return prepare(replace(data, examples=data.examples[:4], num_lines=4), Renderer.load(MINI), max_length=96, role="training")


@pytest.fixture(scope="module", params=list(TINY))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("families") / request.param, seed=5)


def _tuned_before(folder: Path, place: Path) -> Path:
    """A saved adapter that changes what the model says."""
    model = load_model(folder)
    model.add_adapter("before", rank=4, alpha=8.0, seed=2)
    generator = torch.Generator().manual_seed(8)
    for parameter in model.adapter_parameters("before"):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    place.mkdir()
    model.save_adapter("before", place, base_name="some/base")
    return place


def _logits(model: LanguageModel) -> Tensor:
    columns = torch.arange(IDS.shape[1])
    with torch.no_grad():
        return model.logits_at(IDS, torch.tensor([IDS.shape[1]]), torch.zeros_like(columns), columns)


@pytest.mark.parametrize(("method", "goes_on"), [(LORA, False), (LORA, True), (FULL, False)], ids=["lora", "tuned", "full"])
def test_the_first_step_stands_at_ln_2_and_the_next_ones_leave_it(
    folder: Path, pairs: Prepared, tmp_path: Path, method: TuningMethod, goes_on: bool
) -> None:
    model, hooks = load_model(folder), Recorder()
    base = _logits(model)
    parent = _tuned_before(folder, tmp_path / "before") if goes_on else None
    spec = pair_spec(pairs, method=method, epochs=STEPS, rate=RATES[method])
    Trainer(model, spec, pairs, None, hooks, tmp_path / "state", parent_adapter=parent).run()

    first, *_, last = hooks.steps
    assert len(hooks.steps) == STEPS
    assert first.loss == pytest.approx(math.log(2), abs=1e-4)
    assert first.preference is not None
    assert first.preference["reward_margin"] == pytest.approx(0.0, abs=1e-3)
    assert last.loss < math.log(2) - 5e-3, "fifty times what rounding does"
    assert torch.equal(_logits(model), base) == (method is LORA), "with the adapter off the base answers, bit for bit"
    if goes_on:
        with model.use_adapter(ADAPTER_NAME):
            assert not torch.equal(_logits(model), base)
