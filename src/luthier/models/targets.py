"""Which layers of a model can carry an adapter, read from the headers of its files; no weights are read.

What it does: names the linear layers of the blocks, and turns what a job asked for into names. What it does not: attach anything.
Called by ``worker/start.py``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from luthier.core.errors import InvalidRequest
from luthier.models.facts import read_safetensors_header

ALL, ATTENTION, MLP = "all-linear", "attention", "mlp"
_LAYER = re.compile(r"\.\d+\.(?:(?P<module>.*)\.)?(?P<name>[^.]+)\.weight$")
_MATRIX = 2
ROUTERS = frozenset({"router", "gate", "shared_expert_gate"})
"""Linear layers that choose experts. An adapter on them moves tokens between experts in jumps; it is left out, as in PEFT's advice."""


def linear_layers(folder: Path) -> dict[str, str]:
    """Name of each linear layer in the blocks -> ``attention`` or ``mlp``.

    A name that stands in both parts (GPT-2's ``c_proj``) is told apart by the module that it is in (``attn.c_proj``).

    Raises:
        InvalidRequest: a file is torn.
    """
    found: dict[tuple[str, str], str] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for key, entry in read_safetensors_header(path).items():
            match = _LAYER.search(key)
            if match and len(entry["shape"]) == _MATRIX and match["name"] not in ROUTERS:
                module = (match["module"] or "").rpartition(".")[2]
                found[match["name"], module] = ATTENTION if "attn" in key or "attention" in key else MLP
    parts: dict[str, set[str]] = {}
    for (name, _), part in found.items():
        parts.setdefault(name, set()).add(part)
    return {f"{module}.{name}" if len(parts[name]) > 1 else name: part for (name, module), part in sorted(found.items())}


def chosen_targets(asked: Sequence[str] | None, layers: Mapping[str, str]) -> tuple[str, ...]:
    """The names to adapt, sorted; empty for all linear layers.

    Args:
        asked: ``all-linear``, ``attention``, ``mlp``, names of layers, or several of these; None for all.
        layers: as ``linear_layers`` found them.

    Raises:
        InvalidRequest: the model has no such layer; the sentence names those that it has.
    """
    if asked is None or ALL in asked:
        return ()
    chosen: set[str] = set()
    for word in asked:
        names = {name for name, part in layers.items() if word in (part, name)}
        if not names:
            raise InvalidRequest(
                f"The base model has no layer named {word!r} to adapt. Its linear layers are {', '.join(layers)}; "
                f"{ALL!r}, {ATTENTION!r} and {MLP!r} are understood too.",
                code="invalid_value",
                param="luthier.targets",
            )
        chosen |= names
    return () if chosen == set(layers) else tuple(sorted(chosen))
