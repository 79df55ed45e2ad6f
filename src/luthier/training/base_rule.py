"""The rule of a base that is far from a file's answers: such a task wants a hotter rate and more epochs than one that it half knows.

What it does: pure functions and their sentences. What it does not: measure the base (``base_probe.py``). Called by ``resolve.py``,
``base_probe.py``, ``worker/base_probing.py`` and ``worker/forecast_child.py``.

The number of rows, their lengths and the size of the model do not tell a task that the base half knows, where a hot rate forgets, from one
that it does not know, where a cool rate hardly learns. The base's own loss on the answers does. Measured with the embedded base, adapters
and AdamW alone (experiments/LOG.md); elsewhere the usual numbers stay.
"""

import math
from dataclasses import dataclass

from luthier.core.specs import Decision, Hyperparameters, LoraKind, LuthierOptions, ObjectiveKind, OptimizerName, TuningMethod
from luthier.training.rates import AUTO_MULTIPLIER, small_batch_cut

FAR_SHARE = 0.6
"""Of the loss of a blind guess among all tokens of the vocabulary. Our files lie at 0.56 and below, or at 0.67 and above."""
FAR_SEEN, FAR_MOST_EPOCHS = 3_000, 10
"""Examples that are seen in all, and the most epochs, where the base is far off; as OpenAI's rule has 100 and 25 for few examples."""
_USUAL_RATE = "The number that OpenAI's jobs most often show, so that one brought from there means the same here."
NOT_MEASURED = " It may become more just before the first step, where the base turns out to be far from the answers."


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFound:
    """What the model that tuning starts from makes of the file's answers."""

    loss: float
    """Mean over the answers' tokens, nats."""
    num_rows: int
    """That were asked."""
    vocab_size: int

    @property
    def is_far(self) -> bool:
        """The base is not much better than a blind guess. A loss that is no number is not far."""
        return self.vocab_size > 1 and self.loss >= FAR_SHARE * math.log(self.vocab_size)

    def sentence(self) -> str:
        """How far the base is, in words without a full stop."""
        where = f"the base finds the answers of {self.num_rows:,} examples at {self.loss:.2f} nats a token"
        guess = f"a blind guess among {self.vocab_size:,} tokens costs {math.log(max(1, self.vocab_size)):.2f}"
        return f"{where} ({guess}): {'it does not know this task' if self.is_far else 'it is not far from them'}"


def asks_base(hyperparameters: Hyperparameters, options: LuthierOptions, objective: ObjectiveKind) -> bool:
    """Some number depends on the base's loss: epochs or rate are on auto, and the run is of the kind that the rule was measured on.

    DoRA learns at LoRA's rates; rsLoRA, which scales an adapter's change up, was not measured. A range test finds the rate by itself,
    around the usual one.
    """
    open_number = hyperparameters.n_epochs is None or asks_rate(hyperparameters, options)
    adapter = options.adapter is TuningMethod.LORA and options.kind is not LoraKind.RSLORA
    measured = adapter and options.optimizer is OptimizerName.ADAMW
    return open_number and measured and objective is ObjectiveKind.SUPERVISED


def asks_rate(hyperparameters: Hyperparameters, options: LuthierOptions) -> bool:
    """The rate is among those numbers."""
    return hyperparameters.learning_rate_multiplier is None and not options.range_test


def epochs_by_base(usual: Decision, num_examples: int, found: BaseFound) -> Decision:
    """``usual`` epochs, or more where the base is far off."""
    value = max(int(usual.value), min(FAR_MOST_EPOCHS, FAR_SEEN // num_examples))
    if not found.is_far or value == usual.value:
        return usual
    reason = (
        f"{usual.value} would be usual for {num_examples:,} examples, but {found.sentence()}. So about {FAR_SEEN:,} examples are seen "
        f"in all, in at most {FAR_MOST_EPOCHS} epochs."
    )
    return Decision(name=usual.name, value=value, reason=reason)


def multiplier_by_base(batch_size: int, found: BaseFound | None) -> Decision:
    """OpenAI's usual multiplier; where the base is far off times what a small batch takes off the rate. None: nothing is known of it."""
    if found is None:
        return Decision(name="learning_rate_multiplier", value=AUTO_MULTIPLIER, reason=_USUAL_RATE)
    said = found.sentence()
    times = 1.0 / small_batch_cut(batch_size)
    if not found.is_far or times == 1.0:
        return Decision(name="learning_rate_multiplier", value=AUTO_MULTIPLIER, reason=f"{_USUAL_RATE} {said[0].upper()}{said[1:]}.")
    reason = (
        f"{times:.3g} times the usual {AUTO_MULTIPLIER}, because {said}. So the rate is not lowered for a batch of {batch_size}, which "
        "protects what a base knows."
    )
    return Decision(name="learning_rate_multiplier", value=AUTO_MULTIPLIER * times, reason=reason)
