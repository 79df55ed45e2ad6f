"""What the trainer tells its owner, and the one thing it asks. All calls come from the training thread, between steps.

Implemented by ``worker/pipelines.py`` and by tests. Any exception raised here ends the run and passes through ``run()``.
"""

from typing import Protocol

from luthier.trace.events import (
    BaseMeasured,
    EpochDone,
    LossSpiked,
    ModelChosen,
    Notice,
    ReferenceScored,
    ResumeSaved,
    StepDone,
    StepSkipped,
)
from luthier.training.answers import Questions


class TrainerHooks(Protocol):
    """Receives the trainer's reports."""

    def base_measured(self, report: BaseMeasured) -> Questions | None:
        """Before the first step, once per run. What is returned is asked of the base."""
        ...

    def reference_scored(self, report: ReferenceScored) -> None:
        """From time to time while the reference of a preference run is measured, before the base is; and at its end."""
        ...

    def step_done(self, report: StepDone) -> None:
        """After every step. A step may be reported again after a resume; the later report is the one that counts."""
        ...

    def epoch_done(self, report: EpochDone) -> Questions | None:
        """After the last step of an epoch and its full validation. What is returned is asked of the model as it is now, before
        ``save_checkpoint``."""
        ...

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """After ``epoch_done``: the weights are those of the epoch's end. Can come again for a step after a crash.

        ``metrics`` has the keys of OpenAI's checkpoint object: ``step``, ``train_loss``, ``train_mean_token_accuracy`` and,
        where measured, ``valid_loss``, ``valid_mean_token_accuracy``, ``full_valid_loss``, ``full_valid_mean_token_accuracy``.
        """
        ...

    def resume_saved(self, report: ResumeSaved) -> None:
        """A resume state is complete on disk."""
        ...

    def happened(self, news: StepSkipped | LossSpiked | ModelChosen | Notice) -> None:
        """Something out of the ordinary, between the reports of steps; may come again after a resume.

        ``ModelChosen`` comes before ``save_checkpoint`` of the last epoch, and only where the checkpoint that becomes the model was to be
        chosen, or the run ends early. Is it an earlier one than the last, then ``save_checkpoint`` comes once more, with that one's
        weights in the model.
        """
        ...

    def should_stop(self) -> bool:
        """True to end between two steps with a resume state (pause, shutdown)."""
        ...
