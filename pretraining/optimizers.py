"""Muon (Jordan and others, 2024), for the matrices of the layers.

Matrices of one shape are orthogonalised together, as one batched product: on two CPU cores one by one they took as long again.
Steps are scaled to the size of an AdamW step (Liu et al. 2025, "Muon is scalable"), so that one learning rate serves both.
Called by ``train.py``.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5
_STEP_SCALE = 0.2


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix as the direction of the step."""

    def __init__(self, parameters: list[nn.Parameter], *, lr: float, momentum: float, weight_decay: float, arithmetic: torch.dtype) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._arithmetic = arithmetic

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; every parameter has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                directions = orthogonal(torch.stack(self._moved(parameters, group["momentum"])).to(self._arithmetic)).float()
                scale = group["lr"] * _STEP_SCALE * max(shape) ** 0.5
                weights: list[Tensor] = list(parameters)
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
                torch._foreach_add_(weights, list(directions.unbind()), alpha=-scale)  # pyright: ignore[reportPrivateImportUsage]

    def _moved(self, parameters: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """Gradients mixed with their running means, all at once: hundreds of small calls a step keep a GPU waiting."""
        gradients, means = [], []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            gradients.append(parameter.grad)
            means.append(state["momentum"])
        torch._foreach_lerp_(means, gradients, 1 - momentum)  # pyright: ignore[reportPrivateImportUsage]
        return list(torch._foreach_lerp(gradients, means, momentum))  # pyright: ignore[reportPrivateImportUsage]


def orthogonal(matrices_NRC: Tensor) -> Tensor:
    """The matrices with all singular values brought near 1, by five Newton-Schulz steps in the type that they come in."""
    x = matrices_NRC
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if tall else x
