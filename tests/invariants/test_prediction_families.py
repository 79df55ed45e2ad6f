"""The look into the layers, for every family: the lens ends in the model's own output, and without the adapter it is the base's.

The answers as well: slots with adapters of their own in one call tell what each tells alone, and the base's row is the base's bit for bit.
"""

from pathlib import Path

import pytest
import torch

from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.models.probe import Probe
from tests.support.tiny_families import TINY, VOCAB_SIZE
from tests.support.tiny_models import build

IDS = torch.randint(32, VOCAB_SIZE, (17,), generator=torch.Generator().manual_seed(11)).tolist()
POSITIONS = [0, 5, *range(9, 17)]
WITHOUT_SHARES = {"mamba", "openai-gpt"}
"""Mamba's blocks have one part; GPT-1 normalises the sum itself."""
WITHOUT_ATTENTION = {"mamba", "openai-gpt"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=list(TINY))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(request.param, tmp_path_factory.mktemp("families") / request.param, seed=5)


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    loaded = load_model(folder)
    loaded.add_adapter("tuned", rank=4, alpha=8.0, seed=1)
    generator = torch.Generator().manual_seed(3)
    for parameter in loaded.adapter_parameters("tuned"):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return loaded


def _probe(model: LanguageModel, adapter: str | None, attention_layer: int | None = None) -> Probe:
    *pieces, probe = model.probe(IDS, adapter, POSITIONS, attention_layer=attention_layer)
    assert pieces == [None] * len(pieces)
    assert len(pieces) >= model.facts.num_layers
    assert probe is not None
    return probe


def _output(model: LanguageModel, adapter: str | None) -> torch.return_types.max:
    columns = torch.tensor(POSITIONS)
    with torch.no_grad(), model.use_adapter(adapter):
        logits = model.logits_at(torch.tensor([IDS]), torch.tensor([len(IDS)]), torch.zeros_like(columns), columns)
    return torch.softmax(logits, dim=-1).max(dim=-1)


@pytest.mark.parametrize("adapter", [None, "tuned"])
def test_the_lens_at_the_last_layer_is_the_models_output(model: LanguageModel, adapter: str | None) -> None:
    probe, output = _probe(model, adapter), _output(model, adapter)
    assert torch.equal(probe.top_LN[-1], output.indices)
    torch.testing.assert_close(probe.probability_LN[-1], output.values, rtol=1e-4, atol=0.0)
    assert probe.top_LN.shape == (model.facts.num_layers, len(POSITIONS))
    assert not torch.equal(probe.probability_LN[0], probe.probability_LN[-1]), "another layer is another distribution"


def test_without_the_adapter_every_layer_is_the_bases_bit_for_bit(folder: Path, model: LanguageModel) -> None:
    base, off, on = _probe(load_model(folder), None), _probe(model, None), _probe(model, "tuned")
    for name in ("embedding_norms_T", "top_LN", "probability_LN", "residual_norm_L"):
        assert torch.equal(getattr(off, name), getattr(base, name)), name
    assert not torch.equal(on.probability_LN, base.probability_LN)


def _steps(model: LanguageModel, adapters: list[str | None], prompts: list[list[int]]) -> torch.Tensor:
    """(steps, B, V) logits of three tokens that all slots take together."""
    cache = model.new_cache(len(adapters), 24)
    for slot, (adapter, prompt) in enumerate(zip(adapters, prompts, strict=True)):
        with model.use_adapter(adapter):
            model.prefill(cache, slot, prompt)
    slots = list(range(len(adapters)))
    return torch.stack([model.decode_apart(cache, slots, [IDS[at]] * len(slots), adapters) for at in range(3)])


def test_each_slot_answers_with_its_own_adapter_and_the_base_beside_it_is_the_base_bit_for_bit(folder: Path, model: LanguageModel) -> None:
    model.add_adapter("other", rank=2, alpha=4.0, seed=2, form=AdapterForm(dora=True))
    generator = torch.Generator().manual_seed(6)
    for parameter in model.adapter_parameters("other"):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    try:
        # Prompts of two lengths, and an adapter whose rows lie apart.
        adapters, prompts = ["tuned", None, "tuned", "other"], [IDS[:9], IDS[:9], IDS[:12], IDS[:9]]
        together = _steps(model, adapters, prompts)
        for slot, (adapter, prompt) in enumerate(zip(adapters, prompts, strict=True)):
            alone = _steps(model, [adapter], [prompt])[:, 0]
            torch.testing.assert_close(together[:, slot], alone, rtol=1e-4, atol=2e-5 * float(alone.abs().max().clamp(min=1.0)))
        assert not torch.allclose(together[:, 0], together[:, 1], rtol=1e-3)
        # A batch of another size may round otherwise, so that the comparison is with the untouched base in a batch of the same size.
        pure = _steps(load_model(folder), [None, None], [IDS[:9], IDS[:9]])
        beside = _steps(model, ["tuned", None], [IDS[:9], IDS[:9]])
        assert torch.equal(beside[:, 1], pure[:, 1])
        assert torch.equal(pure[:, 0], pure[:, 1])
        assert not torch.equal(beside[:, 0], pure[:, 0])
    finally:
        model.remove_adapter("other")


def test_looking_changes_nothing(model: LanguageModel) -> None:
    before = _output(model, "tuned")
    _probe(model, "tuned", attention_layer=1)
    assert torch.equal(_output(model, "tuned").values, before.values)


def test_shares_and_attention_are_told_where_they_exist(folder: Path, model: LanguageModel) -> None:
    probe = _probe(model, "tuned", attention_layer=1)
    assert (probe.attention_norm_L is None) == (folder.name in WITHOUT_SHARES)
    assert (probe.attention_HTT is None) == (folder.name in WITHOUT_ATTENTION)
    if probe.attention_HTT is None:
        return
    assert probe.attention_HTT.shape == (4, len(IDS), len(IDS))
    sums = probe.attention_HTT.sum(-1)
    # GPT-OSS gives a part of each row to a sink that is no token.
    assert bool((sums <= 1 + 1e-5).all())
    assert folder.name == "gpt-oss" or bool((sums >= 1 - 1e-5).all())
    assert float(probe.attention_HTT.triu(1).abs().max()) == 0.0


def test_where_the_adapter_acts_is_told_for_every_layer(folder: Path, model: LanguageModel) -> None:
    changes = model.adapter_changes("tuned")
    assert len(changes) >= 2 * model.facts.num_layers
    assert all(change > 0 for _, change in changes)
    for layer in range(model.facts.num_layers):
        assert any(f".{layer}." in name for name, _ in changes), layer
    vectors = model.token_vectors()
    assert vectors is not None
    assert vectors.shape[0] == VOCAB_SIZE
