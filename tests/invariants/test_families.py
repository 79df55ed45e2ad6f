"""Every family of causal language models, from folder to tuned and served: tiny random models, each made here.

For each: the logits are those of transformers; LoRA and full tuning lower the loss, along a pinned curve, and resume bit for bit; the
adapter is PEFT's, merged equals unmerged, and without it the base is untouched; the engine serves base and adapter side by side as the
plainest loop does; a fully tuned model is a folder that transformers loads. ``docs/guides/add-a-base-model.md`` shows the list.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from luthier.core.specs import TuningMethod
from luthier.engine import naive
from luthier.engine.sequence import Lane
from luthier.models.decoder import DecoderModel
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.training.attach import ADAPTER_NAME
from tests.support.engine_sequences import Recorded, new_engine, run_to_end
from tests.support.family_runs import Killed, Killing, train, trained_weights
from tests.support.tiny_families import TINY, VOCAB_SIZE
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder

CURVES = Path(__file__).parents[1] / "golden" / "family_loss_curves.json"
"""First losses of each family. ``LUTHIER_RENEW_CURVES=1`` writes them anew."""
TOLERANCE = 2e-3
"""Relative: other processors add in another order, and eight steps make more of it. A wrong gradient is off by far more."""
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-a-base-model.md"
IDS = torch.randint(32, VOCAB_SIZE, (3, 21), generator=torch.Generator().manual_seed(11))
LENGTHS = torch.tensor([21, 13, 5])
LORA, FULL = TuningMethod.LORA, TuningMethod.FULL


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=list(TINY))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("families") / request.param, seed=5)


@pytest.fixture(scope="module")
def tuned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Recorder, Path]:
    """A model with its trained adapter, the run, and the saved adapter."""
    model, recorder = train(folder, LORA, tmp_path_factory.mktemp("state"))
    saved = tmp_path_factory.mktemp("adapter")
    model.save_adapter(ADAPTER_NAME, saved, base_name="some/base")
    return model, recorder, saved


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[LanguageModel, Recorder]:
    """A fully tuned model, and the run."""
    return train(folder, FULL, tmp_path_factory.mktemp("state"))


def _logits(model: LanguageModel) -> Tensor:
    """At all true positions of the ragged rows."""
    rows = torch.cat([torch.full((int(n),), b) for b, n in enumerate(LENGTHS)])
    columns = torch.cat([torch.arange(int(n)) for n in LENGTHS])
    with torch.no_grad():
        return model.logits_at(IDS, LENGTHS, rows, columns)


def _theirs(model: Any) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(input_ids=IDS[b : b + 1, : int(n)]).logits[0] for b, n in enumerate(LENGTHS)])


def _load(folder: Path) -> Any:
    loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, report = loaded
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model.eval()


def _close(mine: Tensor, theirs: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(mine, theirs, rtol=rtol, atol=4 * rtol * float(theirs.abs().max().clamp(min=1.0)))


def test_logits_are_those_of_transformers(folder: Path) -> None:
    model = load_model(folder)
    assert isinstance(model, DecoderModel) == TINY[folder.name].fast
    _close(_logits(model), _theirs(_load(folder)))


def test_an_adapter_learns(folder: Path, tuned: tuple[LanguageModel, Recorder, Path]) -> None:
    steps = tuned[1].steps
    assert len(steps) == 8
    assert sum(s.loss for s in steps[-4:]) < sum(s.loss for s in steps[:4])
    assert all(p.grad is None for p in tuned[0].all_parameters())


def test_losses_follow_the_pinned_curve(
    folder: Path, tuned: tuple[LanguageModel, Recorder, Path], whole: tuple[LanguageModel, Recorder]
) -> None:
    found = {"lora": [round(s.loss, 6) for s in tuned[1].steps], "full": [round(s.loss, 6) for s in whole[1].steps]}
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    pinned = json.loads(CURVES.read_text()) if CURVES.is_file() else {}
    if os.environ.get("LUTHIER_RENEW_CURVES"):
        families = pinned.get("families", {}) | {folder.name: found}
        CURVES.write_text(json.dumps({"versions": versions, "families": dict(sorted(families.items()))}, indent=1) + "\n")
        return
    if versions != pinned["versions"]:
        pytest.skip(f"The curves were written with {pinned['versions']}; the random start of a model may differ between versions.")
    for method, losses in found.items():
        assert losses == pytest.approx(pinned["families"][folder.name][method], rel=TOLERANCE), method
        assert sum(losses[4:]) < sum(losses[:4])


@pytest.mark.parametrize("method", [LORA, FULL])
def test_a_killed_run_resumes_bit_for_bit(
    folder: Path,
    tuned: tuple[LanguageModel, Recorder, Path],
    whole: tuple[LanguageModel, Recorder],
    tmp_path: Path,
    method: TuningMethod,
) -> None:
    straight, run = tuned[:2] if method is LORA else whole
    killed = Killing(at=5)
    with pytest.raises(Killed):
        train(folder, method, tmp_path / "torn", killed)
    torch.rand(3)
    again, rest = train(folder, method, tmp_path / "torn")
    by_step = {s.step: s.loss for s in [*killed.steps, *rest.steps]}
    assert by_step == {s.step: s.loss for s in run.steps}
    assert rest.steps[0].step > 1
    pairs = zip(trained_weights(again, method), trained_weights(straight, method), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_adapter_is_pefts_and_merged_equals_unmerged(folder: Path, tuned: tuple[LanguageModel, Recorder, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    model, _, saved = tuned
    with model.use_adapter(ADAPTER_NAME):
        mine = _logits(model)
    theirs = PeftModel.from_pretrained(_load(folder), str(saved))
    _close(mine, _theirs(theirs))
    merged = theirs.merge_and_unload()
    merged.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    _close(_logits(load_model(tmp_path)), mine, rtol=3e-5)
    fresh = load_model(folder)
    fresh.load_adapter("again", saved)
    with fresh.use_adapter("again"):
        assert torch.equal(_logits(fresh), mine)


def test_without_the_adapter_the_base_is_untouched_bit_for_bit(folder: Path, tuned: tuple[LanguageModel, Recorder, Path]) -> None:
    model, _, _ = tuned
    base = _logits(load_model(folder))
    assert torch.equal(_logits(model), base)
    with model.use_adapter(ADAPTER_NAME):
        assert not torch.equal(_logits(model), base)
    assert torch.equal(_logits(model), base)


def test_the_engine_serves_base_and_adapter_side_by_side(folder: Path, tuned: tuple[LanguageModel, Recorder, Path]) -> None:
    model = tuned[0]
    engine = new_engine()
    engine.attach("m", model, max_length=64)
    prompts = [tuple(IDS[row, : int(n)].tolist()) for row, n in enumerate(LENGTHS)]
    asked = [
        Recorded(prompt, lane=Lane("m", adapter), max_new_tokens=9 + 2 * index)
        for index, prompt in enumerate(prompts)
        for adapter in (None, ADAPTER_NAME)
    ]
    for recorded in asked:
        engine.add(recorded.sequence)
        engine.step()
    run_to_end(engine)
    for recorded in asked:
        sequence = recorded.sequence
        expected = naive.generate(model, sequence.prompt_ids, max_new_tokens=sequence.max_new_tokens, adapter=sequence.lane.adapter)
        assert recorded.ids == expected
    assert any(a.ids[:9] != b.ids[:9] for a, b in zip(asked[::2], asked[1::2], strict=True))


def test_a_fully_tuned_model_is_a_folder_that_transformers_loads(
    folder: Path, whole: tuple[LanguageModel, Recorder], tmp_path: Path
) -> None:
    model, saved = whole[0], tmp_path
    model.save_full(saved)
    mine = _logits(model)
    assert not torch.allclose(mine, _logits(load_model(folder)), atol=1e-3)
    _close(_theirs(_load(saved)), mine)
    assert torch.equal(_logits(load_model(saved)), mine)
    assert json.loads((saved / "config.json").read_text()) == json.loads((folder / "config.json").read_text())


def test_the_guide_names_the_family_and_its_path(folder: Path) -> None:
    (row,) = [line for line in GUIDE.read_text().splitlines() if f"`{folder.name}`" in line and line.startswith("|")]
    assert ("| fast |" in row) == TINY[folder.name].fast
