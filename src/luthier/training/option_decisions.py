"""The sentences beside options that were asked for and change how a run trains: what each one means, with its paper.

What it does: one ``Decision`` for each option that is not at its default, so that the trace explains every number of a run. What it does
not: choose. Pure. Called by ``resolve.py``.
"""

from collections.abc import Sequence
from typing import Any

from luthier.core.specs import Decision, Keep, LoraKind, LuthierOptions, ObjectiveKind, OptimizerName, Schedule


def adapter_decisions(kind: LoraKind, targets: tuple[str, ...], rank: int, alpha: float) -> list[Decision]:
    """Why the adapter is not plain LoRA on all linear layers; empty where it is."""
    found: list[Decision] = []
    if kind is LoraKind.RSLORA:
        reason = (
            f"Rank-stabilised LoRA: the adapter is scaled by alpha / sqrt(rank) = {alpha / rank**0.5:.3g} instead of "
            f"alpha / rank = {alpha / rank:.3g} (Kalajdzievski 2023, arXiv:2312.03732)."
        )
        found.append(Decision(name="adapter", value=kind.value, reason=reason))
    if kind is LoraKind.DORA:
        reason = (
            "DoRA: beside the low-rank change of its direction each row of an adapted matrix has a length that learns "
            "(Liu et al. 2024, arXiv:2402.09353). The learning rate is LoRA's."
        )
        found.append(Decision(name="adapter", value=kind.value, reason=reason))
    if targets:
        reason = "As asked: only these linear layers get an adapter."
        found.append(Decision(name="targets", value=", ".join(targets), reason=reason))
    return found


def _base_decisions(quantization: str | None) -> list[Decision]:
    """How the base is held, where that was asked for."""
    if quantization is None:
        return []
    reason = (
        "As asked: the base's linear layers are held in 4 bits, in blocks of 64 with scales of 8 bits, and unpacked for each product "
        "(QLoRA, Dettmers et al. 2023, arXiv:2305.14314). Losses of the run are those over this base; the adapter is served over the "
        "whole one."
    )
    return [Decision(name="quantization", value=quantization, reason=reason)]


def device_decisions(devices: Sequence[str], batch_size: int) -> list[Decision]:
    """How many of several devices have a part in each step; empty where there is one."""
    if len(devices) == 1:
        return []
    used = devices[:batch_size]
    reason = (
        "As set by LUTHIER_DEVICE: each step's rows are dealt over these devices and their gradients added up (Li et al. 2020, "
        "arXiv:2006.15704). What is learned is the same up to rounding."
    )
    if len(used) < len(devices):
        examples = "1 example" if batch_size == 1 else f"{batch_size} examples"
        reason = f"LUTHIER_DEVICE names {len(devices)} devices, but a step has {examples} to deal. A larger batch_size uses more of them."
    return [Decision(name="devices", value=", ".join(used), reason=reason)]


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


def keeping(options: LuthierOptions, *, held_out: bool) -> dict[str, Any]:
    """The spec's fields that say when a run ends early and which weights it keeps. Who asks for an early end wants the best weights."""
    if not held_out:
        return {}
    keep = options.keep or (Keep.BEST if options.patience else Keep.LAST)
    return {"keep": keep, "patience": options.patience, "min_delta": options.min_delta}


def guarding(options: LuthierOptions) -> dict[str, Any]:
    """The spec's fields that say what becomes of a step that goes wrong."""
    skipped = {} if options.max_skipped_steps is None else {"max_skipped_steps": options.max_skipped_steps}
    return {**skipped, "halve_on_spike": options.on_loss_spike == "halve"}


def _keeping_decisions(options: LuthierOptions, *, held_out: bool) -> list[Decision]:
    found: list[Decision] = []
    chosen = keeping(options, held_out=held_out)
    if not chosen and (options.patience or options.keep):
        reason = (
            "There is no validation file, and so no held-out loss to choose by: all epochs are trained, and the last one's weights kept."
        )
        return [Decision(name="keep", value=Keep.LAST.value, reason=reason)]
    if options.patience:
        epochs = "1 epoch brings" if options.patience == 1 else f"{options.patience} epochs in a row bring"
        better = f"at least {options.min_delta:g} below the best one" if options.min_delta else "below the best one"
        reason = (
            f"Training ends before its last epoch when {epochs} no held-out loss {better} (Prechelt 1998, doi:10.1007/3-540-49430-8_3)."
        )
        found.append(Decision(name="early_stopping", value=options.patience, reason=reason))
    if chosen.get("keep") is Keep.BEST:
        reason = "The epoch with the lowest loss over the whole validation file becomes the model; the others stay callable as checkpoints."
        found.append(Decision(name="keep", value=Keep.BEST.value, reason=reason))
    elif options.patience:
        reason = "As asked: the last epoch that was trained becomes the model, better or not."
        found.append(Decision(name="keep", value=Keep.LAST.value, reason=reason))
    return found


def _guarding_decisions(options: LuthierOptions) -> list[Decision]:
    found: list[Decision] = []
    if options.max_skipped_steps is not None:
        reason = (
            "As asked: so many steps in a row may have a loss or gradient that is no finite number and are left out; one more ends the job."
        )
        found.append(Decision(name="max_skipped_steps", value=options.max_skipped_steps, reason=reason))
    if options.on_loss_spike == "halve":
        reason = "As asked: a loss far above the usual halves the learning rate from its step on; an event tells each time."
        found.append(Decision(name="on_loss_spike", value="halve", reason=reason))
    return found


def _teaching_decisions(options: LuthierOptions) -> list[Decision]:
    found: list[Decision] = []
    if options.neftune_alpha:
        reason = (
            "As asked: while a step learns, the embeddings of a row of T tokens get uniform noise of up to this number / sqrt(T * width) "
            "(NEFTune, Jain et al. 2023, arXiv:2310.05914). What measures, validates or answers has none."
        )
        found.append(Decision(name="neftune_alpha", value=options.neftune_alpha, reason=reason))
    if options.gradient_checkpointing:
        reason = (
            "As asked: a block's inner values are made again on the way back instead of kept (Chen et al. 2016, arXiv:1604.06174). The "
            "numbers are the same; a step takes a third to a half longer."
        )
        found.append(Decision(name="gradient_checkpointing", value="on", reason=reason))
    if options.prompt_loss_weight:
        reason = (
            "As asked: a token of the prompt counts so much in the training loss, beside 1 for a token of the answer (Huerta-Enochian and "
            "Ko 2024, arXiv:2401.13586). Held-out losses, accuracies and losses by row are those of the answers alone."
        )
        found.append(Decision(name="prompt_loss_weight", value=options.prompt_loss_weight, reason=reason))
    return found


def option_decisions(options: LuthierOptions, *, held_out: bool = False) -> list[Decision]:
    """What the other options that were asked for do; empty where all are at their defaults. ``held_out``: there is a validation file."""
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
    found += _base_decisions(options.quantization) + _teaching_decisions(options)
    return found + _keeping_decisions(options, held_out=held_out) + _guarding_decisions(options)


_PREFERENCE_LOSSES = {
    ObjectiveKind.ORPO: "As asked: the preferred answer is imitated and the other one's odds fall beside it; there is no reference "
    "(Hong et al. 2024, arXiv:2403.07691).",
    ObjectiveKind.KTO: "As asked: each answer of a pair counts by itself, as good or as bad, against the reference and against how far "
    "the model has moved from it, by answers of other pairs (Ethayarajh et al. 2024, arXiv:2402.01306).",
}


def preference_decisions(objective: ObjectiveKind) -> list[Decision]:
    """Which loss pairs of answers are learned by, where it is not DPO; empty for other methods."""
    if objective not in _PREFERENCE_LOSSES:
        return []
    return [Decision(name="preference_loss", value=objective.value, reason=_PREFERENCE_LOSSES[objective])]


_PACKING_REASONS = {
    "on": "As asked: a step's rows lie end to end in the fewest forwards, without padding; none sees another.",
    "off": "As asked: a step's rows are cut into forwards in their order.",
    "cuda": "On a GPU rows lie end to end anyway: packed best fit they need the fewest forwards, without padding.",
    "cpu": "On a CPU rows of like length side by side are as fast: packing was measured to save no time there.",
    "path": "This base takes the general path, which reads rows side by side.",
}


def packing_decision(asked: str, device: str, *, end_to_end: bool) -> Decision:
    """Whether rows are packed, and why.

    Args:
        asked: ``auto``, ``on`` or ``off``.
        device: as torch writes it.
        end_to_end: the base's path can read rows end to end.
    """
    if asked == "off" or not end_to_end:
        return Decision(name="packing", value="off", reason=_PACKING_REASONS["off" if asked == "off" else "path"])
    if asked == "on":
        return Decision(name="packing", value="on", reason=_PACKING_REASONS["on"])
    on_gpu = device.startswith("cuda")
    return Decision(name="packing", value="on" if on_gpu else "off", reason=_PACKING_REASONS["cuda" if on_gpu else "cpu"])
