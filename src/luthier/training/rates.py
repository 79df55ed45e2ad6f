"""The base learning rates: one table by method and model size, scaled by batch size.

What it does: holds the numbers and where each comes from. What it does not: decide anything else. Called by ``resolve.py``.
"""

import math

from luthier.core.specs import ObjectiveKind, OptimizerName, TuningMethod

AUTO_MULTIPLIER = 1.8
_TABLE_BATCH = 8

# Peak rates at batch size 8 with the automatic multiplier, by the number of parameters up to which they hold.
# The first row is measured on the embedded base (experiments/LOG.md); the others follow the usual fall with size, not measured by us.
_PEAKS: dict[TuningMethod, tuple[tuple[float, float], ...]] = {
    TuningMethod.LORA: ((3e7, 9e-4), (3e8, 3e-4), (1.5e9, 2.5e-4), (5e9, 2e-4), (2e10, 1.5e-4), (math.inf, 1e-4)),
    TuningMethod.FULL: ((3e7, 1.2e-4), (3e8, 3e-5), (1.5e9, 2e-5), (5e9, 1.5e-5), (2e10, 1e-5), (math.inf, 5e-6)),
}

PREFERENCE_SHARE = 0.1
"""Of the supervised rate: a preference job starts from a model that answers already, and a pair's gradient sums over whole answers. Not of
ORPO's, whose loss is the supervised one with a term beside it, all in means over an answer's tokens."""

OPTIMIZER_FACTORS = {OptimizerName.ADAMW: 1.0, OptimizerName.LION: 0.7, OptimizerName.SGD: 100.0, OptimizerName.ADAFACTOR: 100.0}
"""Times AdamW's rate: where an adapter on the embedded base reached AdamW's held-out loss (experiments/LOG.md). For full tuning and
for other models they are not measured, and another multiplier may be better."""


def base_rate(
    method: TuningMethod,
    num_parameters: int,
    batch_size: int,
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED,
    optimizer: OptimizerName = OptimizerName.ADAMW,
) -> float:
    """The rate that a multiplier of 1 stands for. ``batch_size`` counts examples, or pairs.

    It grows with the batch size to the power of 2/3, which fits our measured best rates at 1, 2, 4 and 8 (between the square
    root that suits Adam, Malladi et al. 2022, arXiv:2205.10287, and proportion), and stays between a quarter and four times
    the table's rate.
    """
    peak = next(rate for limit, rate in _PEAKS[method] if num_parameters <= limit)
    return rate_share(objective) * peak * _batch_scale(batch_size) / AUTO_MULTIPLIER * OPTIMIZER_FACTORS[optimizer]


def _batch_scale(batch_size: int) -> float:
    return min(4.0, max(0.25, (batch_size / _TABLE_BATCH) ** (2 / 3)))


def small_batch_cut(batch_size: int) -> float:
    """What a batch smaller than the table's takes off its rate: a factor of at most 1."""
    return min(1.0, _batch_scale(batch_size))


def rate_share(objective: ObjectiveKind) -> float:
    """Of the supervised rate."""
    return PREFERENCE_SHARE if objective.has_reference else 1.0


def size_class(num_parameters: int) -> str:
    """The model's size in words: ``8.5 M``, ``1.5 B``."""
    if num_parameters >= 1e9:
        return f"{num_parameters / 1e9:.1f} B"
    return f"{num_parameters / 1e6:.1f} M" if num_parameters >= 1e5 else f"{num_parameters:,}"
