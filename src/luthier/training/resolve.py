"""Turns what was asked into a ``TrainingSpec`` in which every number is decided, and says why for each "auto".

What it does: epochs, batch size, learning rate, adapter size, schedule. What it does not: read files or models; it is given
their facts. Called by ``worker/pipelines.py``, after preprocessing, because only rows that train are counted.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from luthier.core.specs import (
    Decision,
    Hyperparameters,
    LoraKind,
    LuthierOptions,
    ObjectiveKind,
    OptimizerName,
    TrainingSpec,
    TuningMethod,
)
from luthier.training.base_rule import NOT_MEASURED, BaseFound, asks_base, asks_rate, epochs_by_base, multiplier_by_base
from luthier.training.option_decisions import (
    adapter_decisions,
    device_decisions,
    guarding,
    keeping,
    option_decisions,
    packing_decision,
    preference_decisions,
)
from luthier.training.range_rule import range_test_decision
from luthier.training.rates import base_rate, rate_share, size_class

DEFAULT_BETA = 0.1
DEFAULT_MAX_LENGTH = 4096
DEFAULT_RANK = 16
ALPHA_PER_RANK = 2.0
_TARGET_EPOCHS, _TARGET_MIN_EXAMPLES, _TARGET_MAX_EXAMPLES, _MAX_EPOCHS = 3, 100, 25_000, 25
_BATCH_SHARE, _MAX_BATCH = 0.002, 256
_WARMUP_SHARE, _MAX_WARMUP = 0.06, 100
_VALIDATION_EVERY = 10
_SMALL_MODEL, _SMALL_MODEL_THREADS = 30_000_000, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the decisions rest on."""

    num_examples: int
    """Examples, or pairs, that will be trained on."""
    num_parameters: int
    """Of the base model."""
    base: str
    base_revision: str
    dataset_fingerprint: str
    validation_fingerprint: str | None
    seed: int
    num_threads: int
    """CPU threads of this process, at least 1."""
    device: str = "cpu"
    more_devices: tuple[str, ...] = ()
    """Further devices that the job may use."""
    precision: str = "float32"
    parent_rank: int | None = None
    """Rank of the adapter whose tuning is continued; it cannot change."""
    parent_alpha: float | None = None
    parent_kind: LoraKind = LoraKind.LORA
    targets: tuple[str, ...] = ()
    """Layers to adapt, as ``models.targets`` names them; empty for all linear layers."""
    end_to_end: bool = True
    """The base's path can read rows end to end, as packing does."""
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED
    """``DPO`` for all pairs of answers; ``LuthierOptions.preference_loss`` says which loss."""
    found: BaseFound | None = None
    """What the model that tuning starts from makes of the answers; None where that does not count, or is measured later."""


def resolve_max_length(asked: int | None, model_max_length: int) -> Decision:
    """Longest example in tokens, needed before preprocessing: as asked, but never longer than the model's positions allow."""
    if asked is None:
        value = min(DEFAULT_MAX_LENGTH, model_max_length)
        reason = f"{DEFAULT_MAX_LENGTH:,} tokens, or what the model can read ({model_max_length:,}) when that is less."
    else:
        value = min(asked, model_max_length)
        reason = "As asked." if value == asked else f"{asked:,} was asked for; the model reads at most {model_max_length:,} tokens."
    return Decision(name="max_length", value=value, reason=reason)


def auto_epochs(num_examples: int) -> Decision:
    """OpenAI's published rule: three epochs, more for few examples, fewer for very many."""
    target = _TARGET_EPOCHS
    if num_examples * target < _TARGET_MIN_EXAMPLES:
        value = min(_MAX_EPOCHS, _TARGET_MIN_EXAMPLES // num_examples)
        reason = (
            f"{num_examples:,} examples are few: about {_TARGET_MIN_EXAMPLES} examples are seen in all, in at most {_MAX_EPOCHS} epochs."
        )
    elif num_examples * target > _TARGET_MAX_EXAMPLES:
        value = max(1, _TARGET_MAX_EXAMPLES // num_examples)
        reason = f"{num_examples:,} examples are many: about {_TARGET_MAX_EXAMPLES:,} examples are seen in all."
    else:
        value = target
        reason = f"The usual {target} for {num_examples:,} examples."
    return Decision(name="n_epochs", value=value, reason=reason)


def auto_batch_size(num_examples: int) -> Decision:
    """OpenAI's rule: 0.2 % of the examples, at least 1, at most 256 (reference, section 2.9)."""
    value = min(_MAX_BATCH, max(1, int(num_examples * _BATCH_SHARE + 0.5)))
    return Decision(name="batch_size", value=value, reason=f"0.2 % of {num_examples:,} examples, at least 1 and at most {_MAX_BATCH}.")


def auto_threads(asked: int, cores: int, num_parameters: int) -> Decision:
    """CPU threads of a run. 0 asks for our choice: all cores, but half of them (at most 4) for a small model.

    A small model's operations are so short that two threads wait for each other more than they work: beside any busy process
    they were measured to be several times slower than one.
    """
    if asked > 0:
        return Decision(name="num_threads", value=asked, reason="As set by LUTHIER_TRAIN_THREADS.")
    if num_parameters <= _SMALL_MODEL:
        value = min(_SMALL_MODEL_THREADS, max(1, cores // 2))
        return Decision(
            name="num_threads", value=value, reason=f"Half of {cores} cores, at most {_SMALL_MODEL_THREADS}: the model is small."
        )
    return Decision(name="num_threads", value=max(1, cores), reason=f"One for each of {cores} cores.")


def resolve(
    hyperparameters: Hyperparameters, options: LuthierOptions, facts: RunFacts, *, max_length: int
) -> tuple[TrainingSpec, tuple[Decision, ...]]:
    """Decide every number.

    Args:
        hyperparameters: OpenAI's three, None for "auto".
        options: our own.
        facts: data, model and machine.
        max_length: as ``resolve_max_length`` decided before preprocessing.

    Returns:
        The spec, and a ``Decision`` for each number that was not given.
    """
    decisions: list[Decision] = []
    by_base = asks_base(hyperparameters, options, facts.objective)
    epochs = _asked_or(hyperparameters.n_epochs, _epochs(facts, by_base=by_base), decisions)
    batch_size = int(_asked_or(hyperparameters.batch_size, auto_batch_size(facts.num_examples), decisions))
    method, objective = options.adapter, _objective(options, facts)
    by_base = by_base and asks_rate(hyperparameters, options)
    multiplier = _asked_or(hyperparameters.learning_rate_multiplier, _multiplier(facts, batch_size, by_base=by_base), decisions)
    beta = _beta(hyperparameters, objective, decisions)
    rate = base_rate(method, facts.num_parameters, batch_size, objective, options.optimizer)
    decisions.append(_peak(multiplier, rate, options, facts, batch_size, rate_share(objective)))
    rank, alpha = _adapter_size(method, options, facts, decisions)
    kind, targets = _adapter_form(method, options, facts, decisions)
    decisions += adapter_decisions(kind, targets, rank, alpha)
    steps_per_epoch = math.ceil(facts.num_examples / batch_size)
    total_steps = steps_per_epoch * int(epochs)
    warmup = _warmup(options, total_steps, decisions)
    decisions += [_packing(options, facts), *preference_decisions(objective)]
    decisions += option_decisions(options, held_out=facts.validation_fingerprint is not None)
    decisions += device_decisions((facts.device, *facts.more_devices), batch_size)
    spec = TrainingSpec(
        method=method,
        n_epochs=int(epochs),
        batch_size=batch_size,
        learning_rate_multiplier=multiplier,
        learning_rate=multiplier * rate,
        lora_rank=rank,
        lora_alpha=alpha,
        warmup_steps=warmup,
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        max_length=max_length,
        seed=facts.seed,
        num_threads=facts.num_threads,
        validation_every=_VALIDATION_EVERY,
        lora_kind=kind,
        targets=targets,
        **_learning(method, options, facts),
        **keeping(options, held_out=facts.validation_fingerprint is not None),
        **guarding(options),
        objective=objective,
        beta=beta,
        range_steps=_range_test(hyperparameters, options, facts, total_steps, decisions),
        more_devices=facts.more_devices[: batch_size - 1],
        **_as_found(facts),
    )
    return spec, tuple(decisions)


def _as_found(facts: RunFacts) -> dict[str, Any]:
    """The spec's fields that nobody chooses."""
    names = ("base", "base_revision", "dataset_fingerprint", "validation_fingerprint", "device", "precision")
    return {name: getattr(facts, name) for name in names}


def _asked_or(asked: float | None, auto: Decision, decisions: list[Decision]) -> float:
    if asked is not None:
        return asked
    decisions.append(auto)
    return float(auto.value)


def _peak(multiplier: float, rate: float, options: LuthierOptions, facts: RunFacts, batch_size: int, share: float) -> Decision:
    way = f"{options.adapter.value} tuning"
    if options.optimizer is not OptimizerName.ADAMW:
        way += f" with {options.optimizer.value}"
    size = f"a model of {size_class(facts.num_parameters)} parameters at batch size {batch_size}"
    less = "" if share == 1.0 else f", {share:g} of the supervised rate because pairs are learned"
    reason = f"{multiplier:g} times the base rate {rate:.3g} for {way} of {size}{less}."
    return Decision(name="learning_rate", value=multiplier * rate, reason=reason)


def _packing(options: LuthierOptions, facts: RunFacts) -> Decision:
    return packing_decision(options.packing, facts.device, end_to_end=facts.end_to_end)


def _learning(method: TuningMethod, options: LuthierOptions, facts: RunFacts) -> dict[str, Any]:
    """How the base is held, rows are read and weights move, as asked or by default."""
    return {
        "quantization": options.quantization,
        # Nothing pulls an adapter towards zero but its own start; a full fine-tune keeps a little decay on matrices.
        "weight_decay": _given(options.weight_decay, 0.0 if method is TuningMethod.LORA else 0.01),
        "adam_beta1": _given(options.beta1, 0.9),
        "adam_beta2": _given(options.beta2, 0.99 if options.optimizer is OptimizerName.LION else 0.95),
        "adam_epsilon": 1e-8,
        "max_grad_norm": _given(options.max_grad_norm, 1.0),
        "schedule": options.schedule,
        "min_rate_ratio": options.min_rate_ratio,
        "optimizer": options.optimizer,
        "packing": _packing(options, facts).value == "on",
        "gradient_checkpointing": bool(options.gradient_checkpointing),
        "neftune_alpha": float(options.neftune_alpha or 0.0),
        "prompt_loss_weight": float(options.prompt_loss_weight or 0.0),
    }


def _adapter_form(
    method: TuningMethod, options: LuthierOptions, facts: RunFacts, decisions: list[Decision]
) -> tuple[LoraKind, tuple[str, ...]]:
    """Kind and layers; those of a continued adapter stay."""
    if facts.parent_rank is None:
        return options.kind, () if method is TuningMethod.FULL else facts.targets
    if options.targets is not None or options.kind is not facts.parent_kind:
        reason = "Kind and layers of the adapter whose tuning is continued cannot change."
        decisions.append(Decision(name="adapter", value=facts.parent_kind.value, reason=reason))
    return facts.parent_kind, ()


def _range_test(
    hyperparameters: Hyperparameters, options: LuthierOptions, facts: RunFacts, total_steps: int, decisions: list[Decision]
) -> int:
    """Steps of the test of the learning rate; 0 where the rate was given, or pairs are learned, whose reference comes first."""
    given = hyperparameters.learning_rate_multiplier is not None
    if not options.range_test or given or facts.objective is not ObjectiveKind.SUPERVISED:
        return 0
    decision = range_test_decision(total_steps)
    decisions.append(decision)
    return int(decision.value)


def _given(asked: float | None, default: float) -> float:
    return default if asked is None else asked


def _warmup(options: LuthierOptions, total_steps: int, decisions: list[Decision]) -> int:
    """Steps of the linear rise; at least one step is left for the peak."""
    asked = options.warmup_steps
    if asked is None and options.warmup_ratio is not None:
        asked = math.ceil(total_steps * options.warmup_ratio)
    if asked is None:
        return min(_MAX_WARMUP, math.ceil(total_steps * _WARMUP_SHARE))
    value = min(asked, total_steps - 1)
    why = "As asked" if options.warmup_ratio is None else f"{options.warmup_ratio:.3g} of {total_steps:,} steps"
    reason = f"{why}: the rate rises in a straight line over these steps." if value == asked else f"{why}; the last step has the peak."
    decisions.append(Decision(name="warmup_steps", value=value, reason=reason))
    return value


def _epochs(facts: RunFacts, *, by_base: bool) -> Decision:
    usual = auto_epochs(facts.num_examples)
    if not by_base:
        return usual
    return _told_early(usual) if facts.found is None else epochs_by_base(usual, facts.num_examples, facts.found)


def _multiplier(facts: RunFacts, batch_size: int, *, by_base: bool) -> Decision:
    decision = multiplier_by_base(batch_size, facts.found if by_base else None)
    return _told_early(decision) if by_base and facts.found is None else decision


def _told_early(decision: Decision) -> Decision:
    """A number that the base's loss may still change."""
    return replace(decision, reason=decision.reason + NOT_MEASURED)


def _objective(options: LuthierOptions, facts: RunFacts) -> ObjectiveKind:
    return facts.objective if facts.objective is ObjectiveKind.SUPERVISED else options.preference_loss


_BETA_REASONS = {
    ObjectiveKind.DPO: "The value of the method's authors for dialogue: smaller moves further away from the model that tuning starts from.",
    ObjectiveKind.KTO: "The value of the method's authors: smaller moves further away from the model that tuning starts from.",
    ObjectiveKind.ORPO: "The value of the method's authors (their lambda): how much the odds of the two answers count beside imitation.",
}


def _beta(hyperparameters: Hyperparameters, objective: ObjectiveKind, decisions: list[Decision]) -> float:
    if objective is ObjectiveKind.SUPERVISED:
        return 0.0
    return _asked_or(hyperparameters.beta, Decision(name="beta", value=DEFAULT_BETA, reason=_BETA_REASONS[objective]), decisions)


def _adapter_size(method: TuningMethod, options: LuthierOptions, facts: RunFacts, decisions: list[Decision]) -> tuple[int, float]:
    if method is TuningMethod.FULL:
        return 0, 0.0
    if facts.parent_rank is not None and facts.parent_alpha is not None:
        decisions.append(Decision(name="rank", value=facts.parent_rank, reason="The rank of the adapter whose tuning is continued."))
        return facts.parent_rank, facts.parent_alpha
    rank = options.rank
    if rank is None:
        rank = DEFAULT_RANK
        decisions.append(Decision(name="rank", value=rank, reason="Our default: enough for a task, small on disk."))
    alpha = options.alpha
    if alpha is None:
        alpha = ALPHA_PER_RANK * rank
        decisions.append(Decision(name="alpha", value=alpha, reason="Twice the rank."))
    return rank, alpha
