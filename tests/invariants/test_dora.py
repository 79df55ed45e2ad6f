"""DoRA beside the other kinds: it starts as the base, serves what it trained, resumes bit for bit, and refuses what it cannot do.

That its files, outputs and gradients are PEFT's is held by ``test_adapter_forms_equal_peft.py``, its hand-written gradient by
``test_gradients.py``.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from luthier.chat.renderer import Renderer
from luthier.core.errors import InvalidRequest
from luthier.core.specs import LoraKind, TrainingSpec
from luthier.data.stage import collect
from luthier.models.adapter_form import PLAIN, AdapterForm
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from tests.support.examples import EXAMPLES
from tests.support.mini import MINI, load_mini
from tests.support.tiny_models import FAMILIES, VOCAB_SIZE, build
from tests.support.trainable_model import Recorder, spec_for

DORA = AdapterForm(dora=True)
IDS = torch.randint(32, VOCAB_SIZE, (2, 14), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("models") / request.param, seed=7)


def _logits(model: LanguageModel, adapter: str | None) -> Tensor:
    rows = torch.arange(2).repeat_interleave(14)
    with torch.no_grad(), model.use_adapter(adapter):
        return model.logits_at(IDS, torch.tensor([14, 14]), rows, torch.arange(14).repeat(2))


def _disturb(model: LanguageModel, name: str) -> None:
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.adapter_parameters(name):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _close(mine: Tensor, theirs: Tensor, share: float = 2e-5) -> None:
    torch.testing.assert_close(mine, theirs, rtol=share / 2, atol=share * float(theirs.abs().max().clamp(min=1.0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_starts_as_the_base(folder: Path, dtype: torch.dtype) -> None:
    model = load_model(folder, dtype=dtype)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1, form=DORA)
    _close(_logits(model, "x"), _logits(model, None), share=2e-5 if dtype == torch.float32 else 2e-2)
    assert max(change for _, change in model.adapter_changes("x")) < 1e-6
    vectors = [p for p in model.adapter_parameters("x") if p.ndim == 1]
    assert vectors, "lengths are vectors, so that weight decay leaves them alone"
    assert all(p.dtype == torch.float32 and p.requires_grad and bool((p > 0).all()) for p in vectors)


def test_in_bfloat16_it_is_what_it_is_in_float32_up_to_rounding(folder: Path, tmp_path: Path) -> None:
    wide = load_model(folder)
    wide.add_adapter("x", rank=4, alpha=6.0, seed=1, form=DORA)
    _disturb(wide, "x")
    wide.save_adapter("x", tmp_path, base_name="b")
    narrow = load_model(folder, dtype=torch.bfloat16)
    narrow.load_adapter("x", tmp_path)
    base = _logits(narrow, None)
    moved, wanted = _logits(narrow, "x") - base, _logits(wide, "x") - _logits(wide, None)
    assert float((moved - wanted).norm()) < 0.1 * float(wanted.norm())


def test_what_is_decoded_token_by_token_is_what_was_trained(folder: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1, form=DORA)
    _disturb(model, "x")
    expected = _logits(model, "x").view(2, 14, -1)
    assert not torch.allclose(expected, _logits(model, None).view(2, 14, -1), atol=1e-2)
    cache = model.new_cache(2, 32)
    with model.use_adapter("x"):
        for slot in (0, 1):
            _close(model.prefill(cache, slot, IDS[slot, :10]), expected[slot, 9])
        for at in range(10, 14):
            _close(model.decode(cache, [0, 1], IDS[:, at]), expected[:, at])


def test_kinds_stand_side_by_side_on_one_base(folder: Path) -> None:
    forms = {"lora": PLAIN, "rslora": AdapterForm(rslora=True), "dora": DORA}
    alone: dict[str, Tensor] = {}
    for name, form in forms.items():
        model = load_model(folder)
        model.add_adapter(name, rank=4, alpha=6.0, seed=1, form=form)
        _disturb(model, name)
        alone[name] = _logits(model, name)
    together = load_model(folder)
    before = _logits(together, None)
    for name, form in forms.items():
        together.add_adapter(name, rank=4, alpha=6.0, seed=1, form=form)
        _disturb(together, name)
    for name in (*forms, *reversed(forms)):
        assert torch.equal(_logits(together, name), alone[name]), name
    assert torch.equal(_logits(together, None), before)
    together.remove_adapter("lora")
    assert torch.equal(_logits(together, "dora"), alone["dora"])
    together.remove_adapter("dora")
    assert torch.equal(_logits(together, "rslora"), alone["rslora"])


def test_a_row_of_zeros_is_refused(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=2, alpha=2.0, seed=0, form=DORA)
    model.save_adapter("x", tmp_path, base_name="b")
    hollow = load_model(folder)
    with torch.no_grad():
        for parameter in hollow.all_parameters():
            if parameter.ndim == 2 and parameter.shape[0] < VOCAB_SIZE:
                parameter[3] = 0.0
                parameter[:, 3] = 0.0
    before = _logits(hollow, None)
    with pytest.raises(InvalidRequest, match="has a row of zeros in"):
        hollow.add_adapter("y", rank=2, alpha=2.0, seed=0, form=DORA)
    with pytest.raises(InvalidRequest, match="has a row of zeros in"):
        hollow.load_adapter("z", tmp_path)
    assert torch.equal(_logits(hollow, None), before)
    hollow.add_adapter("y", rank=2, alpha=2.0, seed=0)


def test_lengths_that_the_config_does_not_name_are_refused(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=2, alpha=2.0, seed=0, form=DORA)
    model.save_adapter("x", tmp_path, base_name="b")
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    assert config["use_dora"]
    path.write_text(json.dumps(config | {"use_dora": False}))
    with pytest.raises(InvalidRequest, match="does not say use_dora"):
        model.load_adapter("y", tmp_path)
    path.write_text(json.dumps(config))
    weights = tmp_path / "adapter_model.safetensors"
    tensors = load_file(weights)
    gone = next(key for key in tensors if key.endswith(".lora_magnitude_vector"))
    save_file({key: value for key, value in tensors.items() if key != gone}, weights)
    with pytest.raises(InvalidRequest, match="has no lora_magnitude_vector"):
        model.load_adapter("y", tmp_path)
    tensors[gone] = tensors[gone][1:].clone()
    save_file(tensors, weights)
    with pytest.raises(InvalidRequest, match=r"has shape|do not fit"):
        model.load_adapter("y", tmp_path)


@pytest.fixture(scope="module")
def rows() -> Prepared:
    whole = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    return prepare(replace(whole, examples=whole.examples[:12], num_lines=12), Renderer.load(MINI), max_length=64, role="training")


def _transformers_mini() -> LanguageModel:
    from luthier.models.facts import read_facts
    from luthier.models.transformers_model import TransformersModel

    return TransformersModel(MINI, read_facts(MINI), device="cpu", dtype=torch.float32)


def _spec(rows: Prepared, **changes: object) -> TrainingSpec:
    return replace(spec_for(rows, epochs=2, rate=1e-3), lora_kind=LoraKind.DORA, **changes)  # type: ignore[arg-type]


def _weights(model: LanguageModel, name: str = ADAPTER_NAME) -> list[Tensor]:
    return [p.detach().clone() for p in model.adapter_parameters(name)]


LOADS = pytest.mark.parametrize("load", [load_mini, _transformers_mini], ids=["decoder", "transformers"])


@LOADS
def test_a_stopped_run_ends_bit_for_bit(tmp_path: Path, rows: Prepared, load: Callable[[], LanguageModel]) -> None:
    straight, hooks, spec = load(), Recorder(), _spec(rows)
    end = Trainer(straight, spec, rows, None, hooks, tmp_path / "straight").run()
    assert hooks.epochs[-1].train_loss < hooks.epochs[0].train_loss
    model = load()
    assert Trainer(model, spec, rows, None, Recorder(stop_after=3), tmp_path / "torn").run().stopped
    again = load()
    assert Trainer(again, spec, rows, None, Recorder(), tmp_path / "torn").run() == end
    assert all(torch.equal(a, b) for a, b in zip(_weights(again), _weights(straight), strict=True))
    moved = [p for p in _weights(straight) if p.ndim == 1]
    fresh = load()
    fresh.add_adapter(ADAPTER_NAME, rank=4, alpha=8.0, seed=11, form=DORA)
    assert all(not torch.equal(a, b) for a, b in zip(moved, [p for p in _weights(fresh) if p.ndim == 1], strict=True))


@LOADS
def test_it_trains_beside_plain_lora_as_alone(tmp_path: Path, rows: Prepared, load: Callable[[], LanguageModel]) -> None:
    specs = {"plain": replace(_spec(rows), lora_kind=LoraKind.LORA), "long": _spec(rows, lora_rank=8)}
    alone: dict[str, list[Tensor]] = {}
    for name, spec in specs.items():
        model = load()
        Trainer(model, spec, rows, None, Recorder(), tmp_path / f"{name}-alone", adapter=name).run()
        alone[name] = _weights(model, name)
    model = load()
    turns = {n: Trainer(model, s, rows, None, Recorder(), tmp_path / n, adapter=n).turns() for n, s in specs.items()}
    while turns:
        for name in list(turns):
            try:
                beside = next(turns[name])
            except StopIteration:
                del turns[name]
                continue
            if beside is not None:
                beside()
    for name, wanted in alone.items():
        assert all(torch.equal(a, b) for a, b in zip(_weights(model, name), wanted, strict=True)), name


@LOADS
def test_tuning_goes_on_from_a_saved_adapter(tmp_path: Path, rows: Prepared, load: Callable[[], LanguageModel]) -> None:
    first, parent = load(), tmp_path / "parent"
    Trainer(first, _spec(rows), rows, None, Recorder(), tmp_path / "first").run()
    parent.mkdir()
    first.save_adapter(ADAPTER_NAME, parent, base_name="b")
    model, hooks = load(), Recorder()
    Trainer(model, _spec(rows), rows, None, hooks, tmp_path / "second", parent_adapter=parent).run()
    (tmp_path / "child").mkdir()
    model.save_adapter(ADAPTER_NAME, tmp_path / "child", base_name="b")
    before, after = (load_file(f / "adapter_model.safetensors") for f in (parent, tmp_path / "child"))
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith(".lora_magnitude_vector"))
    with first.use_adapter(ADAPTER_NAME), torch.no_grad():
        ids = IDS[:, :9]
        here = first.logits_at(ids, torch.tensor([9, 9]), torch.tensor([0, 1]), torch.tensor([8, 8]))
    again = load()
    again.load_adapter("x", parent)
    with again.use_adapter("x"), torch.no_grad():
        assert torch.equal(again.logits_at(ids, torch.tensor([9, 9]), torch.tensor([0, 1]), torch.tensor([8, 8])), here)
