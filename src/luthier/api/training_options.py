"""Rules across our own training options: which of them have a meaning together.

What it does: the options of a checked request as a job keeps them. What it does not: bounds of single options
(``schemas/fine_tuning.py``), what depends on the model or the data (``training/resolve.py``). Called by ``mapping.py``.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from luthier.api.schemas.fine_tuning import LuthierOptions
from luthier.core.errors import InvalidRequest
from luthier.core.quantization import NOT_FULL, NOT_INSTALLED, is_installed

_OF_ADAPTERS = ("rank", "alpha", "targets")
_OF_HELD_OUT = ("early_stopping", "keep")
_OF_SUPERVISED = ("neftune_alpha", "prompt_loss_weight")
_OF_PAIRS = ("preference_loss",)


def asked_options(
    options: LuthierOptions | None, *, held_out: bool, method: str = "supervised", hyperparameters: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """The options that were given.

    Args:
        options: of the request.
        held_out: the request has a validation file.
        method: what the job learns by.
        hyperparameters: OpenAI's, "auto" where they were left to us.

    Raises:
        InvalidRequest: two of them contradict each other, one has no meaning beside another, or one needs a library that is not installed.
    """
    if options is None:
        return {}
    given = options.model_dump(exclude_none=True)
    for name in given:
        reason = _misplaced(name, given)
        if name in _OF_PAIRS and method != "dpo":
            reason = f"belongs to pairs of answers and has no meaning with the method '{method}'. Use the method 'dpo'."
        if reason is None and not held_out and name in _OF_HELD_OUT and given[name] != "last":
            reason = "goes by the loss on held-out examples. Give a 'validation_file'."
        if reason is None and method != "supervised" and name in _OF_SUPERVISED:
            reason = f"belongs to supervised fine-tuning and has no meaning with the method '{method}'."
        if reason is None and name == "range_test" and given[name]:
            reason = _no_range_test(method, hyperparameters)
        if reason is not None:
            raise InvalidRequest(f"'luthier.{name}' {reason}", code="invalid_parameter_combination", param=f"luthier.{name}")
    if "quantization" in given and not is_installed():
        raise InvalidRequest(NOT_INSTALLED, code="unsupported_value", param="luthier.quantization")
    return given


def _misplaced(name: str, given: dict[str, Any]) -> str | None:
    """Why an option has no place here; None where it has."""
    optimizer = given.get("optimizer", "adamw")
    if name == "quantization" and given.get("adapter") == "full":
        return NOT_FULL
    if name in _OF_ADAPTERS and given.get("adapter") == "full":
        return "belongs to adapters and has no meaning with 'adapter': 'full'."
    if name == "warmup_ratio" and "warmup_steps" in given:
        return "and 'luthier.warmup_steps' say the same thing in two ways. Give one of them."
    if name == "min_rate_ratio" and given.get("schedule") == "constant":
        return "has no meaning with 'schedule': 'constant', whose rate does not fall."
    if (name == "beta2" and optimizer in ("sgd", "adafactor")) or (name == "beta1" and optimizer == "adafactor"):
        return f"has no meaning with 'optimizer': '{optimizer}'."
    return None


def _no_range_test(method: str, hyperparameters: Mapping[str, Any]) -> str | None:
    """Why a job's learning rate is not tested; None where it can be."""
    if method != "supervised":
        return f"is for the method 'supervised'; a job of the method '{method}' takes the automatic rate or the one that it is given."
    if hyperparameters.get("learning_rate_multiplier", "auto") != "auto":
        return "finds the learning rate, and 'learning_rate_multiplier' gives one. Leave one of them out."
    return None
