"""The optimizer that the spec names, and its state as named tensors for the resume state.

What it does: build, update, export and import of moments. What it does not: gradients or schedules. Called by ``loop.py``.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from luthier.core.specs import OptimizerName, TrainingSpec
from luthier.training.lion import Lion

_FILE_NAMES = {"exp_avg": "first", "exp_avg_sq": "second"}
"""What resume states call a moment, where it is not its own name."""


def build_optimizer(parameters: Sequence[nn.Parameter], spec: TrainingSpec) -> torch.optim.Optimizer:
    """The optimizer, fused where torch has it so; weight decay on matrices only."""
    matrices = [p for p in parameters if p.ndim >= 2]
    vectors = [p for p in parameters if p.ndim < 2]
    both = [{"params": matrices, "weight_decay": spec.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in both if group["params"]]
    rate, betas = spec.learning_rate, (spec.adam_beta1, spec.adam_beta2)
    match spec.optimizer:
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=spec.adam_epsilon, fused=True)
        case OptimizerName.SGD:
            return torch.optim.SGD(groups, lr=rate, momentum=spec.adam_beta1, fused=True)
        case OptimizerName.LION:
            return Lion(groups, lr=rate, betas=betas)
        case OptimizerName.ADAFACTOR:
            return torch.optim.Adafactor(groups, lr=rate)


def take_step(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], rate: float) -> None:
    """One update with this learning rate; the gradients are gone afterwards."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    # The fused kernel writes weights without telling autograd. What a model keeps of its weights (an adapter's fused form)
    # is thrown away by this number alone, and would go stale in validation.
    torch.autograd.graph.increment_version(parameters)
    optimizer.zero_grad(set_to_none=True)


def export_state(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, *, copied: bool = True) -> dict[str, Tensor]:
    """Weights and moments on the CPU: for parameter number I ``weight.I``, and of AdamW ``first.I`` and ``second.I``.

    ``copied``: False where nothing moves them any more; on a CPU they are the parameters' and the optimizer's own then.
    """
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(parameters):
        tensors[f"weight.{number}"] = parameter.detach().to("cpu", copy=copied)
        for name, value in optimizer.state.get(parameter, {}).items():
            if name != "step" and isinstance(value, Tensor):
                tensors[f"{_FILE_NAMES.get(name, name)}.{number}"] = value.detach().to("cpu", copy=copied)
    return tensors


def import_state(parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, step: int) -> None:
    """Put exported weights and moments back, in place. ``step``: updates done so far.

    Raises:
        KeyError: a tensor is missing. ValueError: a shape differs.
    """
    own_names = {file_name: name for name, file_name in _FILE_NAMES.items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, number = key.rpartition(".")
        if number.isdigit() and kind != "weight" and "." not in kind:
            moments.setdefault(int(number), {})[own_names.get(kind, kind)] = tensor
    for number, parameter in enumerate(parameters):
        weight = tensors[f"weight.{number}"]
        if weight.shape != parameter.shape:
            raise ValueError(f"Parameter {number} has shape {tuple(parameter.shape)}; the resume state holds {tuple(weight.shape)}.")
        with torch.no_grad():
            parameter.copy_(weight)
        if number in moments:
            # Fresh memory, not views of a file: alignment decides which vector instructions run, hence the bits.
            state = {name: torch.empty_like(value, device=parameter.device).copy_(value) for name, value in moments[number].items()}
            optimizer.state[parameter] = {**_counter(optimizer, step, parameter), **state}


def _counter(optimizer: torch.optim.Optimizer, step: int, parameter: nn.Parameter) -> dict[str, Tensor]:
    """The updates so far, where and as the optimizer counts them."""
    if isinstance(optimizer, torch.optim.AdamW):
        return {"step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device)}
    if isinstance(optimizer, torch.optim.Adafactor):
        return {"step": torch.tensor(float(step), dtype=torch.float32)}
    return {}
