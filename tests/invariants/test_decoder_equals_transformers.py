"""Whatever path a model takes, its logits are those of transformers; cached decoding equals the whole forward pass."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luthier.core.errors import InvalidRequest
from luthier.models import decoder as decoder_module
from luthier.models.decoder import DecoderModel
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.tiny_models import FAMILIES, VOCAB_SIZE, build, mini_folder

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    **{family: (family, {}) for family in FAMILIES},
    "llama-mha-untied": ("llama", {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "llama3-rope": ("llama", {"rope_parameters": LLAMA3_ROPE}),
    "mistral-wide-window": ("mistral", {"sliding_window": 256}),
    "mistral-window": ("mistral", {"sliding_window": 8}),
    "llama-yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}}),
    "llama-bias": ("llama", {"attention_bias": True}),
}
SLOW_PATH = ("gpt2", "mistral-window", "llama-yarn", "llama-bias")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=[*VARIANTS, "luthier-mini"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "luthier-mini":
        return mini_folder()
    family, changes = VARIANTS[request.param]
    return build(family, tmp_path_factory.mktemp("models") / request.param, seed=3, **changes)


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_model(folder)


def _rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(11)
    ids = torch.randint(32, VOCAB_SIZE, (3, 21), generator=generator)
    return ids, torch.tensor([21, 13, 5])


def _reference(folder: Path, ids_BT: Tensor) -> Tensor:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return reference(input_ids=ids_BT).logits


def _close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5 * float(theirs.abs().max().clamp(min=1.0)))


def test_the_path_is_the_one_that_the_config_asks_for(folder: Path, model: LanguageModel) -> None:
    assert isinstance(model, DecoderModel) == (folder.name not in SLOW_PATH)


def test_logits_of_padded_rows(folder: Path, model: LanguageModel) -> None:
    ids, lengths = _rows()
    expected = torch.cat([_reference(folder, ids[b : b + 1, : int(n)])[0] for b, n in enumerate(lengths)])
    rows = torch.cat([torch.full((int(n),), b) for b, n in enumerate(lengths)])
    columns = torch.cat([torch.arange(int(n)) for n in lengths])
    with torch.no_grad():
        quiet = model.logits_at(ids, lengths, rows, columns)
    _close(quiet, expected)
    _close(model.logits_at(ids, lengths, rows, columns).detach(), expected)


def test_prefill_and_decode_equal_the_whole_forward_pass(folder: Path, model: LanguageModel) -> None:
    ids, lengths = _rows()
    cache = model.new_cache(4, 32)
    slots = [3, 0, 1]
    for row, slot in enumerate(slots):
        prompt = ids[row, : int(lengths[row])]
        _close(model.prefill(cache, slot, prompt), _reference(folder, prompt[None])[0, -1])
    texts = [ids[row, : int(n)].tolist() for row, n in enumerate(lengths)]
    for token in (40, 999, 77):
        logits = model.decode(cache, slots, [token, token + 1, token + 2])
        for row, text in enumerate(texts):
            text.append(token + row)
            _close(logits[row], _reference(folder, torch.tensor([text]))[0, -1])
            assert cache.length(slots[row]) == len(text)
    _close(model.decode(cache, [0], [50])[0], _reference(folder, torch.tensor([[*texts[1], 50]]))[0, -1])


def test_a_prompt_of_any_length_is_read_as_it_is(model: LanguageModel) -> None:
    # On a CPU it is padded to one of few lengths, which may be more than its slot holds.
    ids = torch.arange(40, 62)
    with torch.no_grad():
        whole = model.logits_at(ids[None], torch.tensor([22]), torch.zeros(22, dtype=torch.int64), torch.arange(22))
        following = model.logits_at(ids[None], torch.tensor([22]), torch.zeros(1, dtype=torch.int64), torch.tensor([21]))[0]
    for length in range(1, 21):
        _close(model.prefill(model.new_cache(1, length), 0, ids[:length]), whole[length - 1])
    cache = model.new_cache(1, 22)
    _close(model.prefill(cache, 0, ids[:21]), whole[20])
    _close(model.decode(cache, [0], ids[21:])[0], following)


def test_a_freed_slot_forgets(model: LanguageModel) -> None:
    ids, _ = _rows()
    cache = model.new_cache(2, 32)
    fresh = model.prefill(cache, 0, ids[2, :5])
    model.prefill(cache, 1, ids[0])
    model.free(cache, 1)
    assert cache.length(1) == 0
    assert torch.equal(model.prefill(cache, 1, ids[2, :5]), fresh)
    with pytest.raises(InvalidRequest):
        model.prefill(cache, 0, torch.arange(33))
    with pytest.raises(InvalidRequest):
        model.prefill(cache, 0, [])


def test_a_full_slot_is_refused(model: LanguageModel) -> None:
    cache = model.new_cache(1, 5)
    model.prefill(cache, 0, [40, 41, 42, 43, 44])
    with pytest.raises(InvalidRequest, match="limit of 5"):
        model.decode(cache, [0], [45])
    with pytest.raises(InvalidRequest):
        model.new_cache(1, model.facts.max_length + 1)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_long_rows_take_the_other_attention_and_agree(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build(family, tmp_path / family)
    ids, lengths = _rows()
    short = load_model(folder)
    expected = short.logits_at(ids[:1], lengths[:1], torch.tensor([0]), torch.tensor([20]))
    monkeypatch.setattr(decoder_module, "LONG_ROW", 4)
    long = load_model(folder)
    _close(long.logits_at(ids[:1], lengths[:1], torch.tensor([0]), torch.tensor([20])).detach(), expected.detach())
    cache = long.new_cache(1, 64)
    _close(long.prefill(cache, 0, ids[0]), expected[0].detach())
    reference = short.new_cache(1, 64)
    short.prefill(reference, 0, ids[0])
    _close(long.decode(cache, [0], [44]), short.decode(reference, [0], [44]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_is_the_same_model(family: str, tmp_path: Path) -> None:
    folder = build(family, tmp_path / "base")
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.all_parameters():
            parameter.requires_grad_(True)
            parameter.add_(0.01)
    model.add_adapter("left-out", rank=2, alpha=4.0, seed=1)
    (tmp_path / "saved").mkdir()
    model.save_full(tmp_path / "saved")
    ids, lengths = _rows()
    rows, columns = torch.tensor([0, 2]), torch.tensor([20, 4])
    again = load_model(tmp_path / "saved")
    with torch.no_grad():
        _close(again.logits_at(ids, lengths, rows, columns), model.logits_at(ids, lengths, rows, columns))
    _close(again.logits_at(ids[:1], lengths[:1], rows[:1], columns[:1]).detach()[0], _reference(tmp_path / "saved", ids[:1])[0, 20])
    assert json.loads((tmp_path / "saved" / "config.json").read_text()) == json.loads((folder / "config.json").read_text())


def test_the_builtin_model_keeps_its_dtype_and_bits_when_saved(tmp_path: Path) -> None:
    model = load_model(mini_folder())
    model.save_full(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (mini_folder() / "tokenizer.json").read_bytes()
    again = load_model(tmp_path)
    assert again.facts.dtype == model.facts.dtype == "bfloat16"
    assert all(torch.equal(a, b) for a, b in zip(again.all_parameters(), model.all_parameters(), strict=True))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    folder = build("llama", tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 64}))
    with pytest.raises(InvalidRequest, match=r"gate_proj.*shape"):
        load_model(folder)
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(InvalidRequest, match=r"lack model\.layers\.2"):
        load_model(folder)
    torn = tmp_path / "torn"
    shutil.copytree(folder, torn)
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InvalidRequest, match="not a complete safetensors"):
        load_model(torn)
