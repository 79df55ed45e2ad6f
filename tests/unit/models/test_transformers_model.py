"""The complete path's own promises: the head only where asked, no dropout, adapters on the language model, no weights made up."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.core.errors import InvalidRequest
from luthier.models.facts import read_facts
from luthier.models.load import load_model
from luthier.models.transformers_model import TransformersModel
from luthier.models.transformers_parts import short_targets
from tests.support.tiny_models import VOCAB_SIZE, build

IDS = torch.randint(32, VOCAB_SIZE, (3, 21), generator=torch.Generator().manual_seed(11))
LENGTHS = torch.tensor([21, 13, 5])


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def _adapted(model: TransformersModel) -> set[str]:
    model.add_adapter("x", rank=2, alpha=4.0, seed=1)
    return {key.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for key, _ in model._named("x")}


def _load(family: str, folder: Path) -> TransformersModel:
    model = load_model(build(family, folder / family))
    assert isinstance(model, TransformersModel)
    return model


@pytest.mark.parametrize("family", ["gpt2", "gemma2", "granite", "gemma3-vision"])
def test_the_head_sees_the_chosen_positions_and_no_others(tmp_path: Path, family: str) -> None:
    model = _load(family, tmp_path)
    whole = model._base(input_ids=IDS).logits
    seen: list[tuple[int, ...]] = []
    model._base.get_output_embeddings().register_forward_hook(lambda _m, _a, out: seen.append(tuple(out.shape)))
    rows, columns = torch.tensor([0, 0, 2, 1]), torch.tensor([20, 3, 4, 12])
    logits = model.logits_at(IDS, LENGTHS, rows, columns)
    assert seen == [(1, 4, VOCAB_SIZE)]
    torch.testing.assert_close(logits, whole[rows, columns], rtol=1e-5, atol=1e-5)
    cache = model.new_cache(1, 64)
    model.prefill(cache, 0, IDS[0])
    model.decode(cache, [0], [40])
    assert seen[1:] == [(1, 1, VOCAB_SIZE)] * 2


def test_training_mode_brings_no_dropout(tmp_path: Path) -> None:
    model = _load("gpt2", tmp_path)
    assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in model._base.modules())
    rows, columns = torch.tensor([0, 1]), torch.tensor([20, 12])
    before = model.logits_at(IDS, LENGTHS, rows, columns)
    model.module.train()
    assert model.module.training
    assert torch.equal(model.logits_at(IDS, LENGTHS, rows, columns), before)


@pytest.mark.parametrize("family", ["qwen3-moe", "gpt-oss"])
def test_mixtures_are_adapted_in_their_attention(tmp_path: Path, family: str) -> None:
    ends = {name.rsplit(".", 1)[-1] for name in _adapted(_load(family, tmp_path))}
    assert ends == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_of_a_model_that_sees_pictures_the_language_model_is_adapted(tmp_path: Path) -> None:
    model = _load("gemma3-vision", tmp_path)
    adapted = _adapted(model)
    assert adapted
    assert all("language_model" in name for name in adapted)
    (tmp_path / "saved").mkdir()
    model.save_adapter("x", tmp_path / "saved", base_name="b")
    named = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["target_modules"]
    tower = [name for name in model._linear if "language_model" not in name]
    assert tower
    assert not [name for name in tower for end in named if name.endswith(f".{end}")]


def test_targets_are_named_as_short_as_they_are_plain() -> None:
    linear = ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_proj", "head"]
    assert short_targets(linear, linear[:3]) == ["c_attn", "c_proj"]
    assert short_targets(linear, linear[:2]) == ["attn.c_proj", "c_attn"]


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    folder = build("granite", tmp_path / "granite")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidRequest, match=r"lack model\.layers\.1\.mlp\.down_proj\.weight"):
        load_model(folder)


def test_soft_capped_scores_are_kept(tmp_path: Path) -> None:
    model = _load("gemma2", tmp_path)
    assert model._base.config._attn_implementation == "eager"
    assert _load("granite", tmp_path)._base.config._attn_implementation == "sdpa"


def test_a_config_that_is_no_causal_model_is_refused(tmp_path: Path) -> None:
    folder = build("granite", tmp_path / "granite")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(InvalidRequest, match="cannot be loaded as a causal language model"):
        TransformersModel(folder, read_facts(folder), device="cpu", dtype=torch.float32)
