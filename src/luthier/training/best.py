"""Which epoch's weights become the model, by the held-out loss at epoch ends, and when a run ends early for want of a better one.

What it does: judges each epoch, keeps a copy of the best one's weights (part of the resume state), says which checkpoint was chosen.
What it does not: measure a loss, or publish anything. Called by ``loop.py``; with an option at its default it does nothing at all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from luthier.core.specs import Keep, TrainingSpec
from luthier.trace.events import ModelChosen
from luthier.training.progress import Progress

_PREFIX = "best.weight."


class BestWeights:
    """Of one run."""

    def __init__(self, spec: TrainingSpec) -> None:
        self._spec = spec
        self._weights: list[Tensor] = []

    def judged(self, progress: Progress, loss: float | None, parameters: Sequence[nn.Parameter]) -> Progress:
        """The progress with this epoch's end judged, before it is counted as over.

        Args:
            progress: with the epoch's metrics in it.
            loss: over the whole validation file after the epoch; None where there is none. One that is no number is never the best.
            parameters: as they are now; copied where they are the best so far and the best are to be kept.
        """
        spec = self._spec
        if spec.keep is Keep.LAST and not spec.patience:
            return progress
        best = progress.best_loss
        if loss is not None and math.isfinite(loss) and (best is None or loss < best - spec.min_delta):
            if spec.keep is Keep.BEST:
                self._weights = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
            progress = replace(
                progress, best_epoch=progress.epoch, best_step=progress.step, best_loss=loss, best_metrics=dict(progress.metrics)
            )
        waited = progress.epoch - progress.best_epoch
        return replace(progress, ended=progress.epoch == spec.n_epochs or 0 < spec.patience <= waited)

    def choice(self, progress: Progress, epoch: int) -> ModelChosen | None:
        """Which checkpoint becomes the model of a run that ends after this epoch; None where nothing was to be chosen."""
        spec = self._spec
        if not progress.ended:
            return None
        best = spec.keep is Keep.BEST and progress.best_step > 0
        return ModelChosen(
            step=progress.best_step if best else progress.step,
            epoch=progress.best_epoch if best else epoch,
            last_step=progress.step,
            last_epoch=epoch,
            n_epochs=spec.n_epochs,
            best_epoch=progress.best_epoch,
            best_loss=progress.best_loss,
            patience=spec.patience,
            min_delta=spec.min_delta,
            keep=spec.keep.value,
        )

    def put_back(self, parameters: Sequence[nn.Parameter]) -> None:
        """The best weights, in place."""
        with torch.no_grad():
            for parameter, weight in zip(parameters, self._weights, strict=True):
                parameter.copy_(weight)
        torch.autograd.graph.increment_version(parameters)

    def state(self) -> dict[str, Tensor]:
        """For the resume state. Nobody changes these tensors."""
        return {f"{_PREFIX}{number}": weight for number, weight in enumerate(self._weights)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a resume state."""
        count = sum(name.startswith(_PREFIX) for name in tensors)
        self._weights = [tensors[f"{_PREFIX}{number}"].clone() for number in range(count)]
