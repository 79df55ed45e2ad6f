"""Blocks made again on the way back, for a job that would not fit otherwise and left the choice to us.

What it does: decides, by the same arithmetic that would refuse the job. What it does not: refuse (``forecasting.py`` does, which also names
other cures), or act on a GPU, where a step that does not fit is cut smaller as it comes (``training/forwards.py``). Called by
``pipelines.py`` and ``forecast_child.py``.
"""

from dataclasses import replace

from luthier.core.specs import Decision, LoraKind, LuthierOptions, TrainingSpec, TuningMethod
from luthier.models.facts import read_config
from luthier.preprocessing.stage import Prepared
from luthier.training.forecast import LOADED_CODE, peak_by_formula
from luthier.training.plan import plan_run
from luthier.training.work import fixed_bytes, shape_of
from luthier.worker.admission import largest_forward
from luthier.worker.range_testing import Decided
from luthier.worker.start import Start

_ROUTINES = 1 << 29
"""At most, of the CPU library."""


def with_less_memory(
    decided: Decided, options: LuthierOptions, start: Start, training: Prepared, process_bytes: int, available_bytes: int
) -> Decided:
    """The numbers, with blocks made again where the job fits so and not otherwise.

    Args:
        decided: every number, and why.
        options: as asked; who has said yes or no is obeyed.
        start: where tuning starts.
        training: the rows.
        process_bytes: what the process holds before the model.
        available_bytes: what it may take.
    """
    spec, decisions = decided
    if options.gradient_checkpointing is not None or spec.device != "cpu":
        return decided
    if _surely_fits(spec, start, training, process_bytes, available_bytes):
        return decided
    plan = plan_run(spec, training, None, start.facts, shape_of(read_config(start.folder), start.facts))
    kept = peak_by_formula(plan, process_bytes=process_bytes)
    spec = replace(spec, gradient_checkpointing=True)
    again = peak_by_formula(replace(plan, spec=spec), process_bytes=process_bytes)
    if kept.low <= available_bytes or again.likely > available_bytes:
        return decided
    reason = (
        f"The job would take {kept.likely / 1e9:.1f} GB of memory and has {available_bytes / 1e9:.1f}. With blocks made again on the way "
        f"back instead of kept (Chen et al. 2016, arXiv:1604.06174) it takes {again.likely / 1e9:.1f}. The numbers are the same; a step "
        "takes a third to a half longer."
    )
    return spec, (*decisions, Decision(name="gradient_checkpointing", value="on", reason=reason))


def _surely_fits(spec: TrainingSpec, start: Start, training: Prepared, process_bytes: int, available_bytes: int) -> bool:
    """By an upper bound that needs no plan of the run, which takes long for many rows."""
    shape, full = shape_of(read_config(start.folder), start.facts), spec.method is TuningMethod.FULL
    dora = spec.lora_kind is LoraKind.DORA and not full
    trainable = shape.num_parameters if full else shape.adapter_parameters(spec.lora_rank, spec.targets, dora=dora)
    fixed = fixed_bytes(shape, trainable=trainable, full=full, keeps_best=True, mixed=full, nf4=spec.quantization is not None)
    rows, longest = spec.batch_size * training.rows_per_example, int(training.lengths.max())
    pairs = training.rows_per_example > 1
    largest = largest_forward(shape, start.facts, rank=spec.lora_rank, rows=rows, longest=longest, dora=dora, pairs=pairs)
    return process_bytes + LOADED_CODE + fixed + largest + _ROUTINES <= available_bytes
