"""Moments go out and come back to the last bit; only matrices decay."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from luthier.core.specs import OptimizerName
from luthier.training.lion import Lion
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


@pytest.mark.parametrize("name", list(OptimizerName))
def test_an_interrupted_optimizer_goes_on_bit_for_bit(name):
    spec = replace(spec_for(prepared()), optimizer=name, weight_decay=0.1)
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


@pytest.mark.parametrize("name", [OptimizerName.ADAMW, OptimizerName.LION, OptimizerName.SGD])
def test_weight_decay_pulls_matrices_only(name):
    parameters = _parameters()
    before = [p.detach().clone() for p in parameters]
    optimizer = build_optimizer(parameters, replace(spec_for(prepared()), weight_decay=0.5, learning_rate=0.1, optimizer=name))
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


def test_lion_steps_by_the_sign_of_its_interpolated_momentum():
    """Against the algorithm as the paper writes it (Chen et al. 2023, algorithm 2), three steps."""
    parameter = nn.Parameter(torch.tensor([[1.0, -2.0, 0.5]]))
    optimizer = Lion([parameter], lr=0.1, betas=(0.9, 0.99), weight_decay=0.2)
    weight, momentum = parameter.detach().clone(), torch.zeros(1, 3)
    for grad in ([[0.5, -1.0, 0.0]], [[-3.0, 0.1, 0.0]], [[0.2, 0.2, 0.0]]):
        parameter.grad = torch.tensor(grad)
        optimizer.step()
        direction = (0.9 * momentum + 0.1 * parameter.grad).sign()
        weight = weight - 0.1 * (direction + 0.2 * weight)
        momentum = 0.99 * momentum + 0.01 * parameter.grad
        assert torch.allclose(parameter, weight, atol=1e-6)


def test_momentum_of_sgd_is_beta1():
    parameters = _parameters()
    optimizer = build_optimizer(parameters, replace(spec_for(prepared()), optimizer=OptimizerName.SGD, adam_beta1=0.7))
    assert optimizer.param_groups[0]["momentum"] == 0.7
