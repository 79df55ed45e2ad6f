"""How rows are cut, laid side by side or weighted never changes what a step learns, on real models, in float64 where they can.

Accumulated micro-batches = one batch; buckets of like length = one padded batch; weight 0 = not there. Rows end to end = padded rows
stands in ``test_flat_rows.py``, merged = unmerged adapters in ``test_lora_equals_peft.py``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from luthier.core.examples import SourceLine
from luthier.core.specs import TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.batches import collate
from luthier.training.attach import attach
from luthier.training.sft import Room, micro_batches, sft_sums
from tests.support.tiny_models import build
from tests.support.trainable_model import prepared, spec_for

METHODS = list(TuningMethod)


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2", "mamba", "gemma2", "qwen3-moe"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    # transformers masks a softmax in float32 by the smallest float64, and torch groups no float64 matrices of experts.
    dtype = torch.float32 if request.param in ("gemma2", "qwen3-moe") else torch.float64
    return load_model(build(request.param, tmp_path_factory.mktemp("model") / request.param), dtype=dtype)


def rows(count: int = 12, *, longest: int = 40) -> list[TokenizedExample]:
    """Rows of very different lengths with fractional weights and some of zero between trained tokens."""
    draw = np.random.default_rng(4)
    made = []
    for line in range(1, count + 1):
        length = int(draw.integers(4, longest))
        weights = draw.choice([0.0, 0.5, 1.0], size=length).astype(np.float32)
        weights[0], weights[-1] = 0.0, 1.0
        ids = draw.integers(6, 8192, size=length)
        made.append(TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=ids, weights_T=weights)))
    return made


def learn(model: LanguageModel, method: TuningMethod, groups: Sequence[Sequence[TokenizedExample]]) -> tuple[float, int, list[Tensor]]:
    """Loss, hits and gradients of one step whose rows are cut in these groups."""
    name = "tuned" if method is TuningMethod.LORA else None
    parameters = attach(model, spec_for(prepared(), method=method), None, name)
    if name:
        generator = torch.Generator().manual_seed(7)
        for parameter in parameters:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    total = sum(example.rendered.num_trained for group in groups for example in group)
    loss, hits = 0.0, 0
    try:
        with model.use_adapter(name):
            for group in groups:
                sums = sft_sums(model, collate(group))
                (sums.loss / total).backward()
                loss, hits = loss + float(sums.loss.detach()), hits + int(sums.num_correct)
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in parameters]
    finally:
        model.remove_adapter("tuned")
        for parameter in parameters:
            parameter.grad = None
            parameter.requires_grad_(False)
    return loss, hits, gradients


def check_equal(one: tuple[float, int, list[Tensor]], two: tuple[float, int, list[Tensor]]) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-6)
    assert one[1] == two[1]
    largest = max(float(gradient.abs().max()) for gradient in one[2])
    assert largest > 1e-3, "nothing was learned, so nothing was compared"
    for a, b in zip(one[2], two[2], strict=True):
        # Logits, adapters and their gradients are float32 whatever the base is.
        torch.testing.assert_close(a, b, rtol=2e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("method", METHODS)
def test_accumulated_micro_batches_equal_one_batch(model: LanguageModel, method: TuningMethod) -> None:
    data = rows()
    facts = model.facts
    per_token = facts.num_layers * facts.hidden_size * 160
    groups = micro_batches(range(len(data)), data, facts, Room(activation_bytes=90 * per_token))
    assert len(groups) >= 4
    cut = learn(model, method, [[data[index] for index in group] for group in groups])
    check_equal(cut, learn(model, method, [data]))


@pytest.mark.parametrize("method", METHODS)
def test_buckets_of_like_length_equal_one_padded_batch(model: LanguageModel, method: TuningMethod) -> None:
    data = rows()
    by_length = sorted(data, key=lambda example: example.num_tokens)
    buckets = [by_length[at : at + 3] for at in range(0, len(by_length), 3)]
    assert sum(collate(bucket).ids_BT.size for bucket in buckets) < 0.8 * collate(data).ids_BT.size
    check_equal(learn(model, method, buckets), learn(model, method, [data]))


@pytest.mark.parametrize("method", METHODS)
def test_one_row_at_a_time_equals_one_batch(model: LanguageModel, method: TuningMethod) -> None:
    data = rows(5)
    check_equal(learn(model, method, [[example] for example in data]), learn(model, method, [data]))


@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_weight_zero_contributes_nothing(model: LanguageModel, method: TuningMethod) -> None:
    data = rows(4)
    silent = replace(data[0], rendered=Rendered(ids_T=np.arange(100, 130), weights_T=np.zeros(30, dtype=np.float32)))
    check_equal(learn(model, method, [[*data, silent]]), learn(model, method, [data]))


@pytest.mark.parametrize("method", METHODS)
def test_tokens_of_weight_zero_behind_the_last_trained_one_are_never_read(model: LanguageModel, method: TuningMethod) -> None:
    data = rows(4)

    def longer(example: TokenizedExample, token: int) -> TokenizedExample:
        ids = np.concatenate([example.rendered.ids_T, np.full(5, token)])
        weights = np.concatenate([example.rendered.weights_T, np.zeros(5, dtype=np.float32)])
        return replace(example, rendered=Rendered(ids_T=ids, weights_T=weights))

    expected = learn(model, method, [data])
    for token in (7, 4000):
        check_equal(learn(model, method, [[longer(example, token) for example in data]]), expected)


def test_a_weight_scales_its_tokens_share_of_the_gradient(model: LanguageModel) -> None:
    (row,) = rows(1)
    trained = np.zeros(row.num_tokens, dtype=np.float32)
    trained[-1] = 1.0
    whole = replace(row, rendered=Rendered(ids_T=row.rendered.ids_T, weights_T=trained))
    half = replace(row, rendered=Rendered(ids_T=row.rendered.ids_T, weights_T=trained / 2))
    one, two = (learn(model, TuningMethod.LORA, [[example]]) for example in (whole, half))
    check_equal(one, (2 * two[0], two[1], [2 * gradient for gradient in two[2]]))
