"""The learning rate of each step: a short linear rise, then a fall of the chosen form.

What it does: one pure function. What it does not: choose the peak (``resolve.py``). Called by ``loop.py``.
"""

import math

from luthier.core.specs import Schedule, TrainingSpec


def learning_rate_at(step: int, spec: TrainingSpec) -> float:
    """The rate of a 1-based step. The step after the rise has the peak, the last step one share above the floor."""
    if step <= spec.warmup_steps:
        return spec.learning_rate * step / (spec.warmup_steps + 1)
    falling = spec.total_steps - spec.warmup_steps
    left = spec.total_steps - step + 1
    if spec.schedule is Schedule.CONSTANT:
        return spec.learning_rate
    if spec.schedule is Schedule.LINEAR and spec.min_rate_ratio == 0.0:
        return spec.learning_rate * left / falling
    share = left / falling
    if spec.schedule is Schedule.COSINE:
        share = 0.5 * (1.0 + math.cos(math.pi * (1.0 - share)))
    return spec.learning_rate * (spec.min_rate_ratio + (1.0 - spec.min_rate_ratio) * share)
