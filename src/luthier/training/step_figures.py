"""What a step says of its own work: tokens a second, padding, memory, and how much of the device's arithmetic it used.

What it does: counts from the rows of a step's forwards. What it does not: time anything (the loop does), or guess: what was not measured
is None. Called by ``loop.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.core.tokens import TokenizedExample
from luthier.models.facts import read_config
from luthier.models.language_model import LanguageModel
from luthier.training.memory import resident_bytes
from luthier.training.packing import scores_all
from luthier.training.work import micro_of, shape_of, step_work


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """The fields of ``StepDone`` of the same names."""

    tokens: int
    tokens_per_second: float
    padding_share: float
    memory_bytes: int
    flops_utilization: float | None


class StepMeter:
    """Figures of one run's steps."""

    def __init__(self, model: LanguageModel, spec: TrainingSpec, matrix_rate: float | None) -> None:
        """``matrix_rate``: of one device, see ``matrix_rate.py``; None: the use of the devices is not told."""
        self._model = model
        self._full = spec.method is TuningMethod.FULL
        self._devices = (model.device, *map(torch.device, spec.more_devices))
        self._rate = matrix_rate and matrix_rate * len(self._devices)
        self._end_to_end, self._all_scored = spec.packing, scores_all(spec)
        self._shape = shape_of(read_config(model.folder), model.facts) if matrix_rate else None

    def figures(self, groups: Sequence[Sequence[int]], examples: Sequence[TokenizedExample], seconds: float) -> StepFigures:
        """Of a step that read these rows, each group in one forward, in so many seconds; a validation after it does not count."""
        # Each example may be made when it is asked for: once here.
        rows = [[examples[index] for index in group] for group in groups]
        lengths = [[row.num_tokens for row in group] for group in rows]
        tokens = sum(sum(group) for group in lengths)
        padded = tokens if self._end_to_end or self._model.flat else sum(len(group) * max(group) for group in lengths)
        return StepFigures(
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            padding_share=1.0 - tokens / padded,
            memory_bytes=_memory_bytes(self._devices),
            flops_utilization=self._utilization([row for group in rows for row in group], seconds),
        )

    def _utilization(self, rows: Sequence[TokenizedExample], seconds: float) -> float | None:
        if self._shape is None or not self._rate:
            return None
        # Row by row: padding is work that the device does and the model does not need.
        needed = [micro_of([index], rows, all_scored=self._all_scored) for index in range(len(rows))]
        return step_work(needed, self._shape, full=self._full) / seconds / self._rate


def _memory_bytes(devices: Sequence[torch.device]) -> int:
    """Of the process; on GPUs of the tensors, where they took most."""
    if devices[0].type != "cuda":
        return resident_bytes()
    return max(torch.cuda.max_memory_allocated(device) for device in devices)
