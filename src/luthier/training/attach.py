"""What learns: all weights of a model, or those of an adapter that is put on it.

What it does not: train them, or say how an adapter starts (``models/lora.py`` does). Called by ``loop.py`` and ``dry_run.py``.
"""

from pathlib import Path

from torch import nn

from luthier.core.specs import LoraKind, TrainingSpec
from luthier.models.adapter_form import AdapterForm
from luthier.models.language_model import LanguageModel

ADAPTER_NAME = "tuned"


def attach(model: LanguageModel, spec: TrainingSpec, parent_adapter: Path | None, adapter: str | None) -> list[nn.Parameter]:
    """The parameters that learn, ready for it: all weights, or those of a new adapter (or of ``parent_adapter``, to go on from).

    ``adapter`` is its name; None with full tuning.
    """
    if adapter is None:
        parameters = model.all_parameters()
        model.narrow = spec.precision == "mixed"
    else:
        if parent_adapter is not None:
            model.load_adapter(adapter, parent_adapter)
        else:
            kind = spec.lora_kind
            form = AdapterForm(rslora=kind is LoraKind.RSLORA, dora=kind is LoraKind.DORA, targets=spec.targets)
            model.add_adapter(adapter, rank=spec.lora_rank, alpha=spec.lora_alpha, seed=spec.seed, form=form)
        parameters = model.adapter_parameters(adapter)
    for parameter in parameters:
        parameter.requires_grad_(True)
    return parameters
