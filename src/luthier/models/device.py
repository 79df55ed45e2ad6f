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
_PAIRS_REASON = "Preferences are small differences of large log-probabilities, which bfloat16 would blur: float32."


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One decided device and number format, each with its reason."""

    device: str
    """As torch writes it: ``cpu``, ``cuda`` or ``cuda:1``."""
    more_devices: tuple[str, ...] = ()
    """Further ones on which a job may train, where the setting names several."""
    precision: str
    """``float32`` or ``bfloat16``: of the weights in memory; ``mixed``: float32 weights, multiplied as bfloat16."""
    device_reason: str
    precision_reason: str

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of ``precision``."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def training_placement(device: str, precision: str, method: TuningMethod, *, pairs: bool = False) -> Placement:
    """Where a job trains; ``pairs``: it learns from pairs of answers.

    On a GPU, and on a CPU that has instructions for it, an adapter learns in float32 over a bfloat16 base (Dettmers et al. 2023,
    arXiv:2305.14314, keep their adapters so); full tuning keeps float32 weights, whose updates would be lost in bfloat16's eight bits.

    Raises:
        InvalidRequest: the setting names a device that this machine or this build of torch does not have, full tuning in bfloat16, or
            an adapter in ``mixed`` on a GPU.
    """
    (chosen, why), more = _devices(device)
    precision, reason = _training_precision(chosen, precision, method, pairs=pairs)
    return Placement(device=chosen, more_devices=more, precision=precision, device_reason=why, precision_reason=reason)


def _training_precision(chosen: str, precision: str, method: TuningMethod, *, pairs: bool) -> tuple[str, str]:
    """``training_placement``'s number format on the chosen device, and its reason."""
    if precision == "mixed" and chosen != "cpu" and method is not TuningMethod.FULL:
        raise InvalidRequest("LUTHIER_PRECISION is mixed, which on a GPU is for full tuning. Use bfloat16 for an adapter, or auto.")
    if method is TuningMethod.FULL and precision == "bfloat16":
        raise InvalidRequest("LUTHIER_PRECISION is bfloat16, in which full tuning loses small updates. Use float32 or auto.")
    if precision != "auto":
        return precision, "As set by LUTHIER_PRECISION."
    if chosen == "cpu":
        return _on_cpu(method, pairs=pairs)
    if not torch.cuda.is_bf16_supported():
        return "float32", "This GPU has no bfloat16."
    if method is TuningMethod.FULL and pairs:
        return "float32", _PAIRS_REASON
    if method is TuningMethod.FULL:
        return "mixed", "Weights, gradients and moments are float32; this GPU multiplies and keeps what lies between in bfloat16."
    return "bfloat16", "The frozen base is bfloat16 on this GPU; the adapter and its optimizer are float32."


def serving_placement(device: str, precision: str, folder: Path) -> Placement:
    """Where a model answers: on a GPU in bfloat16 where its files hold 16-bit numbers, else in float32. Of several devices the first.

    Raises:
        InvalidRequest: as ``training_placement``; or the folder is no model (see ``facts.check_folder``).
    """
    (chosen, why), _ = _devices(device)
    if precision not in ("auto", "mixed"):
        return Placement(device=chosen, precision=precision, device_reason=why, precision_reason="As set by LUTHIER_PRECISION.")
    half = chosen != "cpu" and read_facts(folder).dtype in ("bfloat16", "float16") and torch.cuda.is_bf16_supported()
    kept = "bfloat16" if half else "float32"
    return Placement(device=chosen, precision=kept, device_reason=why, precision_reason="By the device and the model's files.")


def prepare_device(device: str, precision: str = "float32") -> None:
    """Set what products of float32 matrices mean, once per process: on a GPU TF32, whose ten bits of mantissa training does not miss; on
    a CPU bfloat16 with float32 sums where ``precision`` is ``mixed``, else float32."""
    if device != "cpu":
        torch.set_float32_matmul_precision("high")
    else:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16" if precision == "mixed" else "ieee"  # type: ignore[attr-defined]


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 (AVX512-BF16 or AMX); without them they are emulated, and slower."""
    return torch.backends.mkldnn.is_available() and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _on_cpu(method: TuningMethod, *, pairs: bool) -> tuple[str, str]:
    if not multiplies_bfloat16():
        return "float32", "On a CPU without instructions for bfloat16 all numbers are float32."
    if pairs:
        return "float32", _PAIRS_REASON
    if method is TuningMethod.FULL:
        return "mixed", "This CPU multiplies bfloat16 several times as fast as float32; weights, gradients and sums stay float32."
    return "bfloat16", "This CPU multiplies bfloat16 several times as fast as float32; the adapter and its optimizer are float32."


def compiling_pays(device: str, total_steps: int, *, num_devices: int = 1) -> bool:
    """Whether a run is long enough to compile its blocks: on an H200 that took 26 s and saved 10 % of steps of 0.17 s.

    Not on several devices: torch does not promise that blocks can be compiled in several threads at once.
    """
    long = device != "cpu" and total_steps >= _COMPILED_STEPS
    return long and num_devices == 1 and importlib.util.find_spec("triton") is not None


def placement_of(spec: TrainingSpec) -> Placement:
    """Where a run that was decided before goes on.

    Raises:
        InvalidRequest: one of its devices is not here.
    """
    (chosen, why), more = _devices(",".join((spec.device, *spec.more_devices)))
    return Placement(device=chosen, more_devices=more, precision=spec.precision, device_reason=why, precision_reason="As the run began.")


def _devices(setting: str) -> tuple[tuple[str, str], tuple[str, ...]]:
    """The first device and why it is, and the further ones."""
    first, *more = setting.split(",")
    return _device(first), tuple(_device(name)[0] for name in more)


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
