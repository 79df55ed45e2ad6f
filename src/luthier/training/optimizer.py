"""AdamW as the spec says, and its state as named tensors for the resume state.

What it does: build, update, export and import of moments. What it does not: gradients or schedules. Called by ``loop.py``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from luthier.core.specs import TrainingSpec


def build_optimizer(parameters: Sequence[nn.Parameter], spec: TrainingSpec) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused; weight decay on matrices only."""
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=spec.learning_rate,
        betas=(spec.adam_beta1, spec.adam_beta2),
        eps=spec.adam_epsilon,
        fused=True,
    )


def take_step(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], rate: float) -> None:
    """One update with this learning rate; the gradients are gone afterwards."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    # The fused kernel writes weights without telling autograd. What a model keeps of its weights (an adapter's fused form)
    # is thrown away by this number alone, and would go stale in validation.
    torch.autograd.graph.increment_version(parameters)
    optimizer.zero_grad(set_to_none=True)


def export_state(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of weights and moments on the CPU: ``weight.I``, ``first.I``, ``second.I`` for parameter number I."""
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(parameters):
        tensors[f"weight.{number}"] = _copy(parameter.detach())
        state = optimizer.state.get(parameter)
        if state:
            tensors[f"first.{number}"] = _copy(state["exp_avg"])
            tensors[f"second.{number}"] = _copy(state["exp_avg_sq"])
    return tensors


def import_state(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, step: int) -> None:
    """Put exported weights and moments back, in place.

    Raises:
        KeyError: a tensor is missing. ValueError: a shape differs.
    """
    for number, parameter in enumerate(parameters):
        weight = tensors[f"weight.{number}"]
        if weight.shape != parameter.shape:
            raise ValueError(f"Parameter {number} has shape {tuple(parameter.shape)}; the resume state holds {tuple(weight.shape)}.")
        with torch.no_grad():
            parameter.copy_(weight)
        if f"first.{number}" in tensors:
            # Fresh memory, not views of a file: alignment decides which vector instructions run, hence the bits.
            optimizer.state[parameter] = {
                "step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.empty_like(parameter, requires_grad=False).copy_(tensors[f"first.{number}"]),
                "exp_avg_sq": torch.empty_like(parameter, requires_grad=False).copy_(tensors[f"second.{number}"]),
            }


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
