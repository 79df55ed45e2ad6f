"""The learning rate of each step: a short linear rise, then a straight line towards zero.

What it does: one pure function. What it does not: choose the peak (``resolve.py``). Called by ``loop.py``.
"""

from luthier.core.specs import TrainingSpec


def learning_rate_at(step: int, spec: TrainingSpec) -> float:
    """The rate of a 1-based step. The step after the rise has the peak, the last step one share above zero."""
    if step <= spec.warmup_steps:
        return spec.learning_rate * step / (spec.warmup_steps + 1)
    falling = spec.total_steps - spec.warmup_steps
    return spec.learning_rate * (spec.total_steps - step + 1) / falling
