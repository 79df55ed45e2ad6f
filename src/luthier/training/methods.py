"""Which objective a spec asks for: one line for each.

What it does not: train. Called by ``loop.py`` and ``dry_run.py``.
"""

from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.training.dpo import DpoObjective
from luthier.training.objective import Objective
from luthier.training.sft import SupervisedObjective


def objective_of(spec: TrainingSpec) -> Objective:
    """A new objective, which has measured nothing yet."""
    if spec.objective is ObjectiveKind.DPO:
        return DpoObjective(spec.beta)
    return SupervisedObjective()
