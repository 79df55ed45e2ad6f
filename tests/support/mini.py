"""The embedded base model, loaded for tests, and a visibly different adapter for it."""

from pathlib import Path

import torch

from luthier.core.settings import PACKAGE_DIR
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model

MINI = PACKAGE_DIR / "models" / "builtin" / "luthier-mini"


def load_mini(*, adapter: str | None = None) -> LanguageModel:
    """luthier-mini; ``adapter`` names an attached adapter with random weights that changes most answers."""
    torch.set_num_threads(1)
    model = load_model(MINI)
    if adapter is not None:
        model.add_adapter(adapter, rank=4, alpha=8.0, seed=1)
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in model.adapter_parameters(adapter):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def save_adapter(model: LanguageModel, adapter: str, folder: Path) -> Path:
    """Write an adapter into a new folder."""
    folder.mkdir()
    model.save_adapter(adapter, folder, base_name="luthier-mini")
    return folder
