"""A model on a GPU computes what it computes on a CPU."""

import pytest
import torch

from luthier.engine import naive
from luthier.models.load import load_model
from tests.support.tiny_models import FAMILIES, build

LENGTHS = [7, 30, 2, 19]
IDS_BT = torch.randint(6, 8192, (4, 30), generator=torch.Generator().manual_seed(3))
ROWS_N = torch.tensor([0, 0, 1, 1, 1, 2, 3])
COLUMNS_N = torch.tensor([3, 6, 1, 20, 29, 1, 18])
DECODER = tuple(family for family in FAMILIES if family != "gpt2")


@pytest.fixture(autouse=True)
def _exact_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def _loss_and_gradients(model):
    model.add_adapter("a", rank=8, alpha=16.0, seed=1)
    parameters = model.adapter_parameters("a")
    for number, parameter in enumerate(parameters):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)).to(parameter.device)
        parameter.requires_grad_(True)
    with model.use_adapter("a"):
        targets = IDS_BT[ROWS_N, COLUMNS_N]
        loss, hits, _ = model.losses_at(IDS_BT, torch.tensor(LENGTHS), ROWS_N, COLUMNS_N - 1, targets, torch.ones(len(ROWS_N)))
        loss.backward()
    return loss.detach().cpu(), int(hits.sum()), [p.grad.float().cpu() for p in parameters]


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_equals_the_cpu(tmp_path, family):
    folder = build(family, tmp_path / "m")
    here, there = _loss_and_gradients(load_model(folder)), _loss_and_gradients(load_model(folder, device="cuda"))
    torch.testing.assert_close(there[0], here[0], rtol=1e-4, atol=1e-4)
    assert there[1] == here[1]
    for ours, theirs in zip(there[2], here[2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("family", DECODER)
def test_bfloat16_stays_near(tmp_path, family, compiled):
    folder = build(family, tmp_path / "m", head_dim=32, hidden_size=128)
    model = load_model(folder, device="cuda", dtype=torch.bfloat16)
    model.compiled = compiled
    here, there = _loss_and_gradients(load_model(folder)), _loss_and_gradients(model)
    assert float((there[0] - here[0]).abs() / here[0]) < 0.02
    for ours, theirs in zip(there[2], here[2], strict=True):
        assert float((ours - theirs).norm() / theirs.norm().clamp_min(1e-3)) < 0.1


@pytest.mark.parametrize("family", DECODER)
def test_other_rows_change_nothing_in_bfloat16(tmp_path, family):
    model = load_model(build(family, tmp_path / "m", head_dim=32, hidden_size=128), device="cuda", dtype=torch.bfloat16)
    at = torch.tensor([1, 1]), torch.tensor([0, 9])
    together = model.logits_at(IDS_BT, torch.tensor([30, 10, 5, 30]), *at)
    other = IDS_BT.clone()
    other[0], other[1, 10:] = 7, 9
    torch.testing.assert_close(model.logits_at(other, torch.tensor([30, 10, 5, 30]), *at), together)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_cache_continues_as_the_whole_text_does(tmp_path, family):
    model = load_model(build(family, tmp_path / "m"), device="cuda")
    cache = model.new_cache(3, 64)
    prompts = [IDS_BT[1, :9].tolist(), IDS_BT[2, :4].tolist()]
    for slot, prompt in enumerate(prompts):
        model.prefill(cache, slot, prompt)
    for step in range(5):
        logits = model.decode(cache, [0, 1], [50 + step, 60 + step])
        for slot, prompt in enumerate(prompts):
            prompt.append([50, 60][slot] + step)
            last = torch.tensor([len(prompt) - 1])
            whole = model.logits_at(torch.tensor([prompt]), torch.tensor([len(prompt)]), torch.tensor([0]), last)[0]
            torch.testing.assert_close(logits[slot], whole, rtol=1e-3, atol=1e-3)


def test_greedy_answers_of_the_embedded_base_are_those_of_the_cpu():
    from tests.support.mini import MINI

    prompt = [10, 200, 300, 77, 41]
    here = naive.generate(load_model(MINI), prompt, max_new_tokens=12)
    assert naive.generate(load_model(MINI, device="cuda"), prompt, max_new_tokens=12) == here
