"""Every form of adapter is PEFT's: ours loads in peft and peft's in ours with the same logits; merged equals unmerged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.models.targets import chosen_targets, linear_layers
from tests.support.tiny_models import FAMILIES, VOCAB_SIZE, build

IDS = torch.randint(32, VOCAB_SIZE, (2, 14), generator=torch.Generator().manual_seed(4))
FORMS: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True},
    "attention": {"targets": ("attention",)},
    "mlp": {"targets": ("mlp",)},
    "some": {"targets": ("q_proj", "v_proj", "down_proj"), "rslora": True},
    "dora": {"dora": True},
    "dora_some": {"targets": ("q_proj", "v_proj", "down_proj"), "rslora": True, "dora": True},
}
GPT2_NAMES = {"q_proj": "c_attn", "v_proj": "attn.c_proj", "down_proj": "mlp.c_proj"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("models") / request.param, seed=7)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, folder: Path) -> AdapterForm:
    given = dict(FORMS[request.param])
    if "targets" in given:
        names = [GPT2_NAMES[n] if folder.name == "gpt2" and n in GPT2_NAMES else n for n in given["targets"]]
        given["targets"] = chosen_targets(names, linear_layers(folder))
    return AdapterForm(**given)


def _logits(model: LanguageModel) -> Tensor:
    rows = torch.arange(2).repeat_interleave(14)
    with torch.no_grad():
        return model.logits_at(IDS, torch.tensor([14, 14]), rows, torch.arange(14).repeat(2))


def _disturb(parameters: list[torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def _close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5 * float(theirs.abs().max().clamp(min=1.0)))


def _peft(base: Path, adapter: Path) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    return PeftModel.from_pretrained(loaded, str(adapter))


def _saved(folder: Path, form: AdapterForm, target: Path) -> LanguageModel:
    model = load_model(folder)
    model.add_adapter("x", rank=4, alpha=6.0, seed=1, form=form)
    _disturb(model.adapter_parameters("x"))
    target.mkdir()
    model.save_adapter("x", target, base_name="b")
    return model


def test_ours_loads_in_peft_and_in_ours(folder: Path, form: AdapterForm, tmp_path: Path) -> None:
    model = _saved(folder, form, tmp_path / "a")
    with model.use_adapter("x"):
        mine = _logits(model)
    assert not torch.allclose(mine, _logits(model), atol=1e-2)
    with torch.no_grad():
        _close(mine, _peft(folder, tmp_path / "a")(input_ids=IDS).logits.reshape(28, -1))
    again = load_model(folder)
    again.load_adapter("y", tmp_path / "a")
    with again.use_adapter("y"):
        assert torch.equal(_logits(again), mine)
    shapes = [[p.shape for p in m.adapter_parameters(n)] for m, n in ((model, "x"), (again, "y"))]
    assert shapes[0] == shapes[1]


def test_merged_equals_unmerged(folder: Path, form: AdapterForm, tmp_path: Path) -> None:
    model = _saved(folder, form, tmp_path / "a")
    _peft(folder, tmp_path / "a").merge_and_unload().save_pretrained(tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "merged" / name).write_bytes((folder / name).read_bytes())
    with model.use_adapter("x"):
        _close(_logits(load_model(tmp_path / "merged")), _logits(model))


def test_pefts_loads_in_ours(folder: Path, form: AdapterForm, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=list(form.targets) or "all-linear",
        use_rslora=form.rslora,
        use_dora=form.dora,
        fan_in_fan_out=folder.name == "gpt2",
        task_type="CAUSAL_LM",
    )
    theirs = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), config)
    _disturb([p for name, p in theirs.named_parameters() if "lora_" in name])
    theirs.save_pretrained(str(tmp_path))
    model = load_model(folder)
    model.load_adapter("x", tmp_path)
    with model.use_adapter("x"), torch.no_grad():
        _close(_logits(model), _peft(folder, tmp_path)(input_ids=IDS).logits.reshape(28, -1))


def test_layers_that_are_not_adapted_have_no_tensor(folder: Path, form: AdapterForm, tmp_path: Path) -> None:
    model = _saved(folder, form, tmp_path / "a")
    saved = load_file(tmp_path / "a" / "adapter_model.safetensors")
    paths = {key.rsplit(".lora_", 1)[0] for key in saved}
    for name in linear_layers(folder):
        wanted = not form.targets or name in form.targets
        assert any(path.endswith(f".{name}") for path in paths) == wanted, name
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["use_dora"]) == (form.rslora, form.dora)
    assert {key.rpartition(".lora_")[0] for key in saved if key.endswith(".lora_magnitude_vector")} == (paths if form.dora else set())
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in model.adapter_parameters("x"))


def test_only_adapted_layers_learn_and_the_rest_of_the_gradient_is_exact(folder: Path, form: AdapterForm, tmp_path: Path) -> None:
    """The hand-written gradient of a partial adapter equals the one that peft's modules get from autograd."""
    model = _saved(folder, form, tmp_path / "a")
    theirs = _peft(folder, tmp_path / "a")
    rows, columns = torch.tensor([0, 1, 1]), torch.tensor([5, 9, 13])
    with model.use_adapter("x"):
        logits = model.logits_at(IDS, torch.tensor([14, 14]), rows, columns)
        logits.logsumexp(-1).sum().backward()
    named = {name.replace(".default", ""): p for name, p in theirs.named_parameters() if "lora_" in name}
    named = {name.replace("magnitude_vector.weight", "magnitude_vector"): p for name, p in named.items()}
    for parameter in named.values():
        parameter.requires_grad_(True)
    theirs(input_ids=IDS).logits[rows, columns].logsumexp(-1).sum().backward()
    for parameter in model.adapter_parameters("x"):
        assert parameter.grad is not None
        parameter.data.copy_(parameter.grad)
    (tmp_path / "gradients").mkdir()
    model.save_adapter("x", tmp_path / "gradients", base_name="b")
    mine = load_file(tmp_path / "gradients" / "adapter_model.safetensors")
    assert mine.keys() == named.keys()
    for name, gradient in mine.items():
        grad = named[name].grad
        assert grad is not None
        torch.testing.assert_close(gradient, grad, rtol=1e-3, atol=2e-5 * max(1.0, float(grad.abs().max())))


def test_a_layer_that_the_base_lacks_is_refused_by_name(folder: Path) -> None:
    layers = linear_layers(folder)
    with pytest.raises(InvalidRequest, match=r"no layer named 'x_proj'.*attention"):
        chosen_targets(["x_proj"], layers)
    assert chosen_targets(list(layers), layers) == chosen_targets(["all-linear"], layers) == chosen_targets(None, layers) == ()
    both = chosen_targets(["attention"], layers) + chosen_targets(["mlp"], layers)
    assert sorted(both) == sorted(layers)
    with pytest.raises(InvalidRequest, match="no layer to adapt among x_proj"):
        load_model(folder).add_adapter("x", rank=2, alpha=2.0, seed=0, form=AdapterForm(targets=("x_proj",)))
