"""Where a model computes and in which number format: the settings ``device`` and ``precision`` become a torch device and a dtype.

What it does: looks for a GPU only when asked (the first look costs a second where there is one). What it does not: load anything.
Called by ``worker/pipelines.py`` and ``deployment/host.py``; must not be called in a process that forks others afterwards.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from luthier.core.errors import InvalidRequest
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.facts import read_facts

_COMPILED_STEPS = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One decided device and number format, each with its reason."""

    device: str
    """As torch writes it: ``cpu``, ``cuda`` or ``cuda:1``."""
    precision: str
    """``float32`` or ``bfloat16``: of the weights in memory."""
    device_reason: str
    precision_reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of ``precision``."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def training_placement(device: str, precision: str, method: TuningMethod) -> Placement:
    """Where a job trains.

    On a GPU an adapter learns in float32 over a bfloat16 base (Dettmers et al. 2023, arXiv:2305.14314, keep their adapters so); full
    tuning keeps float32 weights, whose updates would be lost in bfloat16's eight bits.

    Raises:
        InvalidRequest: the setting names a device that this machine or this build of torch does not have, or full tuning in bfloat16.
    """
    chosen, why = _device(device)
    if method is TuningMethod.FULL and precision == "bfloat16":
        raise InvalidRequest("LUTHIER_PRECISION is bfloat16, in which full tuning loses small updates. Use float32 or auto.")
    if precision != "auto":
        return Placement(device=chosen, precision=precision, device_reason=why, precision_reason="As set by LUTHIER_PRECISION.")
    if chosen == "cpu":
        return Placement(device=chosen, precision="float32", device_reason=why, precision_reason="On a CPU all numbers are float32.")
    if method is TuningMethod.FULL:
        reason = "Full tuning keeps its weights in float32; the GPU multiplies them in TF32."
        return Placement(device=chosen, precision="float32", device_reason=why, precision_reason=reason)
    if not torch.cuda.is_bf16_supported():
        return Placement(device=chosen, precision="float32", device_reason=why, precision_reason="This GPU has no bfloat16.")
    reason = "The frozen base is bfloat16 on this GPU; the adapter and its optimizer are float32."
    return Placement(device=chosen, precision="bfloat16", device_reason=why, precision_reason=reason)


def serving_placement(device: str, precision: str, folder: Path) -> Placement:
    """Where a model answers: on a GPU in bfloat16 where its files hold 16-bit numbers, else in float32.

    Raises:
        InvalidRequest: as ``training_placement``; or the folder is no model (see ``facts.check_folder``).
    """
    chosen, why = _device(device)
    if precision != "auto":
        return Placement(device=chosen, precision=precision, device_reason=why, precision_reason="As set by LUTHIER_PRECISION.")
    half = chosen != "cpu" and read_facts(folder).dtype in ("bfloat16", "float16") and torch.cuda.is_bf16_supported()
    kept = "bfloat16" if half else "float32"
    return Placement(device=chosen, precision=kept, device_reason=why, precision_reason="By the device and the model's files.")


def prepare_device(device: str) -> None:
    """Set what products of float32 matrices mean on a GPU, once per process: TF32, whose ten bits of mantissa training does not miss."""
    if device != "cpu":
        torch.set_float32_matmul_precision("high")


def compiling_pays(device: str, total_steps: int) -> bool:
    """Whether a run is long enough to compile its blocks: on an H200 that took 26 s and saved 10 % of steps of 0.17 s."""
    return device != "cpu" and total_steps >= _COMPILED_STEPS and importlib.util.find_spec("triton") is not None


def placement_of(spec: TrainingSpec) -> Placement:
    """Where a run that was decided before goes on.

    Raises:
        InvalidRequest: its device is not here.
    """
    chosen, why = _device(spec.device)
    return Placement(device=chosen, precision=spec.precision, device_reason=why, precision_reason="As the run began.")


def _device(setting: str) -> tuple[str, str]:
    if setting == "cpu":
        return "cpu", "As set by LUTHIER_DEVICE."
    if setting == "auto":
        if torch.cuda.is_available():
            return "cuda", f"The machine has a GPU ({torch.cuda.get_device_name()})."
        return "cpu", "No GPU that torch can use was found."
    number = int(setting.partition(":")[2] or 0)
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        found = f"torch {torch.__version__} sees {torch.cuda.device_count()} GPUs"
        raise InvalidRequest(f"LUTHIER_DEVICE is {setting}, but {found} here. Set it to auto or cpu, or install torch with CUDA.")
    return setting, "As set by LUTHIER_DEVICE."
