"""A run's model on the devices that its spec names, and how fast one of them multiplies.

What it does: loads the model where the run began, its copies on further devices, measures a rate. What it does not: choose devices
(``models/device.py`` and ``training/resolve.py`` do) or train. Called by ``pipelines.py``.
"""

from functools import partial

import torch

from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.device import prepare_device
from luthier.models.facts import read_config
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.training.matrix_rate import matrix_rate
from luthier.training.work import shape_of
from luthier.worker.context import RunContext
from luthier.worker.start import Start, placed


def load_placed(ctx: RunContext, start: Start, spec: TrainingSpec, *, own: bool) -> LanguageModel:
    """The base on the (first) device that the spec names; ``own`` as in ``Floor.model``.

    Raises:
        JobFailure: code ``device_unavailable``: one of the run's devices is not here.
    """
    placement = placed(spec)
    prepare_device(spec.device, spec.precision)
    return ctx.floor.model(start.folder, device=spec.device, dtype=placement.dtype, own=own, quantization=spec.quantization)


def load_replicas(ctx: RunContext, start: Start, spec: TrainingSpec) -> list[LanguageModel]:
    """A copy of the base for each further device, which no other run has.

    Raises:
        JobFailure: as ``load_placed``.
    """
    load = partial(load_model, start.folder, dtype=placed(spec).dtype, quantization=spec.quantization)
    return [ctx.floor.call(partial(load, device=device)) for device in spec.more_devices]


def measured_rate(model: LanguageModel, spec: TrainingSpec) -> float | None:
    """The device's rate at this model's matrices, with the run's threads."""
    torch.set_num_threads(spec.num_threads)
    shape = shape_of(read_config(model.folder), model.facts)
    narrow = spec.precision == "mixed" and spec.method is TuningMethod.FULL
    return matrix_rate(shape, device=model.device, dtype=torch.bfloat16 if narrow else model.all_parameters()[0].dtype)
