"""Lion (Chen et al. 2023, arXiv:2302.06675): steps of equal size in the direction of a momentum's sign.

What it does: the update. What it does not: choose a rate. Called by ``optimizer.py``.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """One momentum per weight, half of Adam's state. Its best rates are 3 to 10 times smaller than AdamW's."""

    def __init__(self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; parameters without a gradient stay."""
        assert closure is None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                momentum = state["exp_avg"]
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                parameter.add_(torch.lerp(parameter.grad, momentum, beta1).sign_(), alpha=-group["lr"])
                momentum.lerp_(parameter.grad, 1.0 - beta2)
