"""Steps and answers of several runs at once on a GPU: those of each alone."""

import pytest
import torch

from luthier.models.load import load_model
from luthier.training.answers import OfferedAnswers, Questions, answer_together, answers_to
from tests.invariants.test_together import FORMS, learned_alone, rows_of
from tests.support.mini import MINI
from tests.support.tiny_models import build


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_losses_and_gradients_are_those_of_each_alone(tmp_path, family, dtype):
    model = load_model(build(family, tmp_path / "m", head_dim=32, hidden_size=128), device="cuda", dtype=dtype)
    parts = [rows_of("a", [7, 30, 2], 1), rows_of("b", [19], 2), rows_of("c", [5, 5, 11, 40], 3)]
    for number, (name, rank, form) in enumerate(FORMS):
        model.add_adapter(name, rank=rank, alpha=8.0, seed=number, form=form)
        for at, parameter in enumerate(model.adapter_parameters(name)):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at))
            parameter.data += 0.05 * draw.to(parameter.device)
            parameter.requires_grad_(True)
    found, gradients = learned_alone(model, parts)
    alone = torch.cat([losses_N.cpu() for _, _, losses_N in found])
    loss, _, losses_P = model.losses_together(parts)
    loss.backward()
    near = 1e-3 if dtype is torch.float32 else 0.03
    assert float((losses_P.cpu() - alone).norm() / alone.norm()) < near
    for part, wanted in zip(parts, gradients, strict=True):
        for ours, theirs in zip(model.adapter_parameters(part.adapter), wanted, strict=True):
            assert ours.grad is not None
            assert float((ours.grad - theirs).norm() / theirs.norm().clamp_min(1e-3)) < 3 * near


def test_answers_are_those_of_each_alone(tmp_path):
    model = load_model(MINI, device="cuda", dtype=torch.float32)
    for number, (name, rank, form) in enumerate(FORMS):
        model.add_adapter(name, rank=rank, alpha=8.0, seed=number, form=form)
        for at, parameter in enumerate(model.adapter_parameters(name)):
            draw = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at + 7 * number))
            parameter.data += 0.03 * draw.to(parameter.device)
    prompts = {"a": [[7, 8, 9], [11]], "b": [[5] * 9, [6, 30]], "c": [[4, 4], [90, 91, 92, 93]]}
    told = {name: [] for name in prompts}
    offers = [
        OfferedAnswers(model, name, Questions(prompts=own, stop_ids=(), max_tokens=8, seconds=60.0, tell=told[name].append))
        for name, own in prompts.items()
    ]
    answer_together(offers)
    for offer in offers:
        with model.use_adapter(offer.adapter):
            assert offer.answers == answers_to(model, offer.questions)
