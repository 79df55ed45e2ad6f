"""Adapters are PEFT's: the same files, the same logits, in both directions, on every path."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.models import lora
from luthier.models.adapter_form import AdapterForm
from luthier.models.decoder import DecoderModel
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.tiny_models import FAMILIES, VOCAB_SIZE, build

IDS = torch.randint(32, VOCAB_SIZE, (2, 14), generator=torch.Generator().manual_seed(4))
LENGTHS = torch.tensor([14, 14])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("models") / request.param, seed=7)


def _logits(model: LanguageModel) -> Tensor:
    rows = torch.arange(2).repeat_interleave(14)
    with torch.no_grad():
        return model.logits_at(IDS, LENGTHS, rows, torch.arange(14).repeat(2))


def _peft_logits(base: Path, adapter: Path, change: Callable[..., object] | None = None) -> Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager"), str(adapter)
    )
    with torch.no_grad():
        return model(input_ids=IDS).logits.reshape(28, -1)


def _disturb(model: LanguageModel, name: str) -> None:
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.adapter_parameters(name):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5 * float(theirs.abs().max().clamp(min=1.0)))


def test_ours_loads_in_peft_and_gives_the_same_logits(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    _disturb(model, "x")
    model.save_adapter("x", tmp_path, base_name="some/base")
    with model.use_adapter("x"):
        mine = _logits(model)
    assert not torch.allclose(mine, _logits(model), atol=1e-2)
    _close(mine, _peft_logits(folder, tmp_path))
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "some/base"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_ours_loads_in_ours_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    _disturb(model, "x")
    model.save_adapter("x", tmp_path, base_name="b")
    model.load_adapter("y", tmp_path)
    with model.use_adapter("x"):
        first = _logits(model)
    with model.use_adapter("y"):
        assert torch.equal(_logits(model), first)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.adapter_parameters("y"))


@pytest.mark.parametrize("rslora", [False, True])
def test_pefts_loads_in_ours_and_gives_the_same_logits(folder: Path, tmp_path: Path, rslora: bool) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    some = {"gpt2": ["c_attn"]}.get(folder.name, ["q_proj", "v_proj", "down_proj"])
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=some, use_rslora=rslora, fan_in_fan_out=folder.name == "gpt2", task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(len(name)), std=0.2)
    theirs.save_pretrained(str(tmp_path))
    model = load_model(folder)
    model.load_adapter("x", tmp_path)
    with model.use_adapter("x"):
        _close(_logits(model), _peft_logits(folder, tmp_path))


def test_merged_equals_unmerged(folder: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    _disturb(model, "x")
    (tmp_path / "adapter").mkdir()
    model.save_adapter("x", tmp_path / "adapter", base_name="b")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).merge_and_unload()  # type: ignore[operator]
    merged.save_pretrained(tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "merged" / name).write_bytes((folder / name).read_bytes())
    with model.use_adapter("x"):
        _close(_logits(load_model(tmp_path / "merged")), _logits(model))


def test_without_an_adapter_the_base_is_untouched_bit_for_bit(folder: Path) -> None:
    model = load_model(folder)
    before = _logits(model)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    _disturb(model, "x")
    assert torch.equal(_logits(model), before)
    with model.use_adapter("x"):
        with model.use_adapter(None):
            assert torch.equal(_logits(model), before)
        assert not torch.equal(_logits(model), before)
    assert torch.equal(_logits(model), before)
    model.remove_adapter("x")
    model.remove_adapter("x")
    assert torch.equal(_logits(model), before)


def test_a_fresh_adapter_changes_nothing_and_is_the_same_for_the_same_seed(folder: Path) -> None:
    model = load_model(folder)
    before = _logits(model)
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        model.add_adapter(name, rank=4, alpha=6.0, seed=seed)
    with model.use_adapter("x"):
        _close(_logits(model), before)
    x, y, z = (model.adapter_parameters(n) for n in ("x", "y", "z"))
    assert all(torch.equal(a, b) for a, b in zip(x, y, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(x, z, strict=True))
    with pytest.raises(InvalidRequest, match="attached already"):
        model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    with pytest.raises(KeyError), model.use_adapter("nobody"):
        pass


def test_several_adapters_train_and_serve_side_by_side(folder: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    model.add_adapter("y", rank=2, alpha=6.0, seed=2)
    _disturb(model, "y")
    cache = model.new_cache(2, 32)
    with model.use_adapter("y"):
        expected = _logits(model)[13]
        _close(model.prefill(cache, 0, IDS[0]), expected)
    with model.use_adapter("x"):
        model.logits_at(IDS, LENGTHS, torch.tensor([0, 1]), torch.tensor([3, 4])).sum().backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.adapter_parameters("x"))
    assert all(p.grad is None or not p.grad.any() for p in model.adapter_parameters("y"))
    assert all(p.grad is None for p in model.all_parameters())
    assert all(p.requires_grad for name in "xy" for p in model.adapter_parameters(name))
    model.remove_adapter("x")
    with model.use_adapter("y"):
        _close(_logits(model)[13], expected)


def test_a_changed_parameter_is_seen_at_once(folder: Path) -> None:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1)
    with model.use_adapter("x"):
        before = _logits(model)
        optimizer = torch.optim.AdamW(model.adapter_parameters("x"), lr=0.1, fused=True)
        model.logits_at(IDS, LENGTHS, torch.tensor([0]), torch.tensor([3])).square().sum().backward()
        optimizer.step()
        assert not torch.allclose(_logits(model), before, atol=1e-3)


def _write_adapter(folder: Path, base: Path, rank: int = 4) -> None:
    model = load_model(base)
    model.add_adapter("x", rank=rank, alpha=6.0, seed=1)
    folder.mkdir()
    model.save_adapter("x", folder, base_name="b")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"peft_type": "IA3"}, "Only LoRA"),
        ({"use_dora": True}, "use_dora, but .* has no lora_magnitude_vector"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"bias": "all"}, "biases"),
        ({"r": 0}, "positive"),
        ({"r": 5}, "does not fit|do not fit|shape"),
    ],
)
def test_adapters_that_are_not_understood_are_refused(folder: Path, tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    _write_adapter(tmp_path / "a", folder)
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    model = load_model(folder)
    before = _logits(model)
    with pytest.raises(InvalidRequest, match=sentence):
        model.load_adapter("x", tmp_path / "a")
    assert torch.equal(_logits(model), before)
    model.add_adapter("x", rank=1, alpha=1.0, seed=0)


def test_an_adapter_of_another_base_or_a_torn_one_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = {"n_embd": 64} if folder.name == "gpt2" else {"hidden_size": 64}
    other = build(folder.name, tmp_path / "other", **wide)
    _write_adapter(tmp_path / "a", other)
    model = load_model(folder)
    with pytest.raises(InvalidRequest):
        model.load_adapter("x", tmp_path / "a")
    _write_adapter(tmp_path / "b", folder)
    weights = tmp_path / "b" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    with pytest.raises(InvalidRequest, match="torn"):
        model.load_adapter("x", tmp_path / "b")
    weights.unlink()
    with pytest.raises(InvalidRequest, match="missing"):
        model.load_adapter("x", tmp_path / "b")


@pytest.mark.parametrize("dora", [False, True])
def test_in_bfloat16_a_narrow_adapter_has_the_widths_of_a_wider_one_and_learns_the_same(
    dora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros beside A and B up to sixteen columns: no other losses, no other gradients."""
    found, folder = [], build("llama", tmp_path / "llama")
    for grain in (16, 1):
        monkeypatch.setattr(lora, "_NARROW_GRAIN", grain)
        model = load_model(folder, dtype=torch.bfloat16)
        model.add_adapter("a", rank=5, alpha=10.0, seed=1, form=AdapterForm(dora=dora))
        generator = torch.Generator().manual_seed(2)
        for parameter in model.adapter_parameters("a"):
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
            parameter.requires_grad_()
        ids = torch.arange(1, 25).reshape(2, 12) % VOCAB_SIZE
        at = (torch.tensor([0, 0, 1]), torch.tensor([3, 7, 10]))
        with model.use_adapter("a"):
            losses, _ = model.token_losses_at(ids, torch.tensor([12, 12]), *at, torch.tensor([4, 8, 11]))
            losses.sum().backward()
        assert isinstance(model, DecoderModel)
        widths = {part.a_LKi.shape[1] for part in model._adapters["a"].fused() if part is not None}
        gradients = [p.grad for p in model.adapter_parameters("a")]
        found.append((widths, losses.detach(), gradients))
    (wide, losses, gradients), (narrow, plain_losses, plain_gradients) = found
    assert wide == {16}
    assert narrow == {5, 10, 15}
    torch.testing.assert_close(losses, plain_losses, rtol=1e-2, atol=1e-2)
    for one, other in zip(gradients, plain_gradients, strict=True):
        assert one is not None
        assert other is not None
        assert other.norm() > 0
        assert (one - other).norm() <= 0.03 * other.norm()
