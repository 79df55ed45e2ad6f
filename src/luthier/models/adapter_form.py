"""What kind of low-rank adapter it is and where it sits. Called by ``lora.py``, ``transformers_model.py`` and ``training/loop.py``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterForm:
    """The form of an adapter beside its rank and alpha."""

    rslora: bool = False
    """Scaled by alpha / sqrt(rank) instead of alpha / rank."""
    dora: bool = False
    """Each row of an adapted matrix has a length that learns beside the low-rank change of its direction (``dora.py``)."""
    targets: tuple[str, ...] = ()
    """Names of the adapted layers (``q_proj``, ``attn.c_proj``); empty for all linear layers of attention and MLP."""


PLAIN = AdapterForm()
"""LoRA as Hu et al. have it, on all linear layers."""
