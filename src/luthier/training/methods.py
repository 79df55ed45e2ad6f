"""Which objective a spec asks for: one line for each.

What it does not: train. Called by ``loop.py`` and ``dry_run.py``.
"""

from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.training.against_reference import ReferenceObjective
from luthier.training.dpo import dpo_loss
from luthier.training.kto import kto_loss
from luthier.training.objective import Objective
from luthier.training.orpo import OrpoObjective
from luthier.training.sft import SupervisedObjective


def objective_of(spec: TrainingSpec) -> Objective:
    """A new objective, which has measured nothing yet."""
    if spec.objective is ObjectiveKind.DPO:
        return ReferenceObjective(spec.beta, dpo_loss)
    if spec.objective is ObjectiveKind.KTO:
        return ReferenceObjective(spec.beta, kto_loss)
    if spec.objective is ObjectiveKind.ORPO:
        return OrpoObjective(spec.beta)
    return SupervisedObjective()
