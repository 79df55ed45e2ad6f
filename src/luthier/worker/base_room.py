"""Whether this machine has room for a base model, said before anything large is read or written.

What it does: disk that a copy or a download needs; memory for the weights, and for training a LoRA adapter on them, in float32 and in
bfloat16. What it does not: forecast a job (``forecasting.py`` does, from its rows). Called by ``add_base.py``.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.core.errors import LuthierError, StorageFull
from luthier.core.settings import Settings
from luthier.models.facts import facts_of_config
from luthier.training.work import Micro, activation_bytes, learning_bytes, logits_at_once, packed_bytes, shape_of, weight_bytes
from luthier.worker.machine import available_memory

_RANK = 16
_ROW = Micro(rows=1, longest=512, trained=256)
"""A row of some length; longer ones and more at once need more."""
_PROCESS_BYTES = 500_000_000
"""Of a training process before the model is in it."""
_SPARE_DISK_BYTES = 100_000_000
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes of memory that a base needs, beside those there are."""

    serve_float32: int
    serve_bfloat16: int
    lora_float32: int
    lora_bfloat16: int
    available: int

    @property
    def dtype(self) -> torch.dtype:
        """In which numbers the weights can be read here.

        Raises:
            LuthierError: in none.
        """
        if self.serve_float32 <= self.available:
            return torch.float32
        if self.serve_bfloat16 <= self.available:
            return torch.bfloat16
        raise LuthierError(
            f"The model needs {gigabytes(self.serve_float32)} of memory to answer in float32 and {gigabytes(self.serve_bfloat16)} in "
            f"bfloat16, and this machine has {gigabytes(self.available)} free. Choose a smaller model."
        )

    @property
    def sentence(self) -> str:
        """For people: what LoRA needs and whether it is there."""
        both = f"{gigabytes(self.lora_float32)} of memory in float32, {gigabytes(self.lora_bfloat16)} in bfloat16"
        if self.lora_float32 <= self.available:
            verdict = "which is there"
        elif self.lora_bfloat16 <= self.available:
            verdict = "so that LUTHIER_PRECISION=bfloat16 is needed"
        else:
            verdict = "so that it can answer here but not be tuned"
        return f"Tuning it by LoRA needs about {both}; {gigabytes(self.available)} are free, {verdict}."


def room_for(settings: Settings, config: dict[str, Any], *, num_parameters: int) -> Room:
    """The memory for a model with this config.json and so many parameters."""
    facts = facts_of_config(config, num_parameters=num_parameters, dtype="bfloat16", revision="")
    shape = shape_of(config, facts)
    trainable = shape.adapter_parameters(_RANK)
    learning = trainable * _BYTES["float32"] + learning_bytes(trainable)
    at_once = logits_at_once(shape, supervised=True, on_cpu=True, full=False)
    activations = activation_bytes(_ROW, shape, rank=_RANK, packed=True, at_once=at_once)
    full, half = weight_bytes(shape), weight_bytes(shape, bytes_per_weight=2)
    return Room(
        serve_float32=full + _PROCESS_BYTES,
        serve_bfloat16=half + _PROCESS_BYTES,
        lora_float32=full + packed_bytes(shape) + learning + activations + _PROCESS_BYTES,
        lora_bfloat16=half + learning + activations // 2 + _PROCESS_BYTES,
        available=available_memory(settings),
    )


def parameters_of(config: dict[str, Any], weight_bytes: int) -> int:
    """About how many parameters files of this size hold, by the number format that config.json names."""
    kind = config.get("dtype") or config.get("torch_dtype") or "float32"
    return weight_bytes // _BYTES.get(str(kind), 4)


def check_disk(folder: Path, num_bytes: int) -> None:
    """See that so much more fits beside ``folder``, which need not exist.

    Raises:
        StorageFull: it does not.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if num_bytes + _SPARE_DISK_BYTES > free:
        raise StorageFull(f"The model needs {gigabytes(num_bytes)} on the disk of {there}, which has {gigabytes(free)} free.")


def gigabytes(num_bytes: int) -> str:
    """``1.5 GB``; small sizes in MB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
