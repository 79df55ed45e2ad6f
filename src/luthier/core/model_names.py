"""Names of tuned models: ``ft:{base}:{org}:{suffix}:{id8}`` and ``:ckpt-step-{n}`` for checkpoints (reference, section 2.8).

Pure. Called by worker (makes names) and api (reads them).
"""

import re

_UNSAFE = re.compile(r"[^a-z0-9._-]+")


def normalise_suffix(suffix: str | None) -> str:
    """Lower case; runs of anything but letters, digits, ``.``, ``_``, ``-`` become one ``-``; colons cannot survive."""
    return _UNSAFE.sub("-", (suffix or "").lower()).strip("-")


def tuned_model_name(base: str, organization: str, suffix: str | None, short_id: str, *, step: int | None = None) -> str:
    """The public name of a final model, or of the checkpoint at ``step``."""
    name = f"ft:{base}:{normalise_suffix(organization)}:{normalise_suffix(suffix)}:{short_id}"
    return name if step is None else f"{name}:ckpt-step-{step}"


def base_of(name: str) -> str:
    """The base name inside an ``ft:`` name; any other name is its own base."""
    return name.split(":")[1] if name.startswith("ft:") and name.count(":") >= 4 else name
