"""Moments go out and come back to the last bit; only matrices decay."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from luthier.training.optimizer import build_optimizer, export_state, import_state, take_step
from tests.support.trainable_model import prepared, spec_for


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(3, 4, generator=generator)), nn.Parameter(torch.randn(5, generator=generator))]


def _steps(parameters, optimizer, first: int, last: int) -> None:
    for step in range(first, last + 1):
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.sin(torch.arange(parameter.numel(), dtype=torch.float32).view_as(parameter) + step + number)
        take_step(optimizer, parameters, 0.05)


def test_an_interrupted_optimizer_goes_on_bit_for_bit():
    spec = spec_for(prepared())
    straight = _parameters()
    _steps(straight, build_optimizer(straight, spec), 1, 8)

    before = _parameters()
    optimizer = build_optimizer(before, spec)
    _steps(before, optimizer, 1, 5)
    saved = export_state(before, optimizer)
    _steps(before, optimizer, 6, 7)  # what is done after the save must not reach the copies
    after = _parameters()
    optimizer = build_optimizer(after, spec)
    import_state(after, optimizer, saved, step=5)
    _steps(after, optimizer, 6, 8)
    assert all(torch.equal(a, b) for a, b in zip(straight, after, strict=True))


def test_a_state_of_other_shapes_is_refused():
    parameters = _parameters()
    optimizer = build_optimizer(parameters, spec_for(prepared()))
    with pytest.raises(ValueError, match="Parameter 0"):
        import_state(parameters, optimizer, {"weight.0": torch.zeros(2, 2), "weight.1": torch.zeros(5)}, step=1)


def test_weight_decay_pulls_matrices_only():
    parameters = _parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = build_optimizer(parameters, replace(spec_for(prepared()), weight_decay=0.5, learning_rate=0.1))
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.allclose(parameters[0], before[0] * 0.95)
    assert torch.equal(parameters[1], before[1])


def test_every_update_is_seen_by_what_is_kept_of_the_weights():
    parameters = _parameters()
    optimizer = build_optimizer(parameters, spec_for(prepared()))
    before = [p._version for p in parameters]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    take_step(optimizer, parameters, 0.1)
    assert all(p._version > version for p, version in zip(parameters, before, strict=True))
    assert all(p.grad is None for p in parameters)
