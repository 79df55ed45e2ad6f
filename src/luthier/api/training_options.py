"""Rules across our own training options: which of them have a meaning together.

What it does: the options of a checked request as a job keeps them. What it does not: bounds of single options
(``schemas/fine_tuning.py``), what depends on the model or the data (``training/resolve.py``). Called by ``mapping.py``.
"""

from typing import Any

from luthier.api.schemas.fine_tuning import LuthierOptions
from luthier.core.errors import InvalidRequest

_OF_ADAPTERS = ("rank", "alpha", "targets")
_OF_HELD_OUT = ("early_stopping", "keep")
_OF_SUPERVISED = ("neftune_alpha", "prompt_loss_weight")
_OF_PAIRS = ("preference_loss",)


def asked_options(options: LuthierOptions | None, *, method: str, held_out: bool) -> dict[str, Any]:
    """The options that were given. ``held_out``: the request has a validation file. ``method``: its type.

    Raises:
        InvalidRequest: two of them contradict each other, or one has no meaning beside another.
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
        if reason is not None:
            raise InvalidRequest(f"'luthier.{name}' {reason}", code="invalid_parameter_combination", param=f"luthier.{name}")
    return given


def _misplaced(name: str, given: dict[str, Any]) -> str | None:
    """Why an option has no place here; None where it has."""
    optimizer = given.get("optimizer", "adamw")
    if name in _OF_ADAPTERS and given.get("adapter") == "full":
        return "belongs to adapters and has no meaning with 'adapter': 'full'."
    if name == "warmup_ratio" and "warmup_steps" in given:
        return "and 'luthier.warmup_steps' say the same thing in two ways. Give one of them."
    if name == "min_rate_ratio" and given.get("schedule") == "constant":
        return "has no meaning with 'schedule': 'constant', whose rate does not fall."
    if (name == "beta2" and optimizer in ("sgd", "adafactor")) or (name == "beta1" and optimizer == "adafactor"):
        return f"has no meaning with 'optimizer': '{optimizer}'."
    return None
