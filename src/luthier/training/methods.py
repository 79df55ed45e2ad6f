"""Which objective a spec asks for, and what measures beside it: one line for each.

What it does not: train. Called by ``loop.py``, ``plan.py`` and ``dry_run.py``.
"""

from luthier.core.specs import ObjectiveKind, TrainingSpec
from luthier.training.against_reference import ReferenceObjective
from luthier.training.dpo import dpo_loss
from luthier.training.kto import KtoObjective
from luthier.training.objective import Objective
from luthier.training.orpo import OrpoObjective
from luthier.training.packing import scores_all
from luthier.training.prompt_loss import PromptedObjective
from luthier.training.sft import SupervisedObjective
from luthier.training.tokens import TokenSource


def objective_of(spec: TrainingSpec) -> Objective:
    """A new objective, which has measured nothing yet."""
    if spec.objective is ObjectiveKind.DPO:
        return ReferenceObjective(spec.beta, dpo_loss)
    if spec.objective is ObjectiveKind.KTO:
        return KtoObjective(spec.beta, spec.max_length)
    if spec.objective is ObjectiveKind.ORPO:
        return OrpoObjective(spec.beta)
    return PromptedObjective(spec.prompt_loss_weight) if spec.prompt_loss_weight else SupervisedObjective()


def read_beside(spec: TrainingSpec, source: TokenSource) -> TokenSource | None:
    """The rows that the objective reads before it learns from, or measures, the pairs of the same numbers of a source; None: none."""
    return source.mismatched(spec.max_length) if spec.objective is ObjectiveKind.KTO else None


def measured_by(objective: Objective) -> Objective:
    """What held-out rows are measured with: the objective itself, but the answers alone where a run learns prompts too.

    So the losses of runs that differ in this can be compared.
    """
    return SupervisedObjective() if isinstance(objective, PromptedObjective) else objective


def base_measured_by(objective: Objective, spec: TrainingSpec, *, held_out: bool) -> tuple[Objective, bool]:
    """What the base is measured with, and whether that makes logits for every token.

    Without held-out rows the base is measured on training rows, as the number that the training loss starts from: by the same loss.
    """
    return (measured_by(objective), False) if held_out else (objective, scores_all(spec))
