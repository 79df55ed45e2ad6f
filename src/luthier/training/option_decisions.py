"""The sentences beside options that were asked for and change how a run trains: what each one means, with its paper.

What it does: one ``Decision`` for each option that is not at its default, so that the trace explains every number of a run. What it does
not: choose. Pure. Called by ``resolve.py``.
"""

from luthier.core.specs import Decision, LoraKind, LuthierOptions, OptimizerName, Schedule


def adapter_decisions(kind: LoraKind, targets: tuple[str, ...], rank: int, alpha: float) -> list[Decision]:
    """Why the adapter is not plain LoRA on all linear layers; empty where it is."""
    found: list[Decision] = []
    if kind is LoraKind.RSLORA:
        reason = (
            f"Rank-stabilised LoRA: the adapter is scaled by alpha / sqrt(rank) = {alpha / rank**0.5:.3g} instead of "
            f"alpha / rank = {alpha / rank:.3g} (Kalajdzievski 2023, arXiv:2312.03732)."
        )
        found.append(Decision(name="adapter", value=kind.value, reason=reason))
    if targets:
        reason = "As asked: only these linear layers get an adapter."
        found.append(Decision(name="targets", value=", ".join(targets), reason=reason))
    return found


_OPTIMIZERS = {
    OptimizerName.SGD: "Stochastic gradient descent with momentum, which is beta1.",
    OptimizerName.LION: "Steps of equal size in the direction of a momentum's sign (Chen et al. 2023, arXiv:2302.06675).",
    OptimizerName.ADAFACTOR: "Second moments kept by row and column, in far less memory (Shazeer and Stern 2018, arXiv:1804.04235).",
}
_NUMBERS = {
    "weight_decay": "As asked: each step shrinks the matrices that learn by this share of the learning rate.",
    "beta1": "As asked: how much of the direction of earlier steps is kept.",
    "beta2": "As asked: how much of the size of earlier gradients is kept.",
    "max_grad_norm": "As asked: a longer gradient is cut to this norm.",
}


def option_decisions(options: LuthierOptions) -> list[Decision]:
    """What the other options that were asked for do; empty where all are at their defaults."""
    found: list[Decision] = []
    floor = f" {options.min_rate_ratio:.3g} of the peak" if options.min_rate_ratio else " zero"
    if options.schedule is Schedule.COSINE:
        reason = f"After the warm-up the rate falls along half a cosine towards{floor} (Loshchilov and Hutter 2017, arXiv:1608.03983)."
        found.append(Decision(name="schedule", value=options.schedule.value, reason=reason))
    elif options.schedule is Schedule.CONSTANT:
        found.append(Decision(name="schedule", value=options.schedule.value, reason="After the warm-up the rate stays at its peak."))
    elif options.min_rate_ratio:
        reason = f"After the warm-up the rate falls in a straight line towards{floor}."
        found.append(Decision(name="schedule", value=options.schedule.value, reason=reason))
    if options.optimizer is not OptimizerName.ADAMW:
        found.append(Decision(name="optimizer", value=options.optimizer.value, reason=_OPTIMIZERS[options.optimizer]))
    given = {name: getattr(options, name) for name in _NUMBERS}
    found += [Decision(name=name, value=value, reason=_NUMBERS[name]) for name, value in given.items() if value is not None]
    return found
