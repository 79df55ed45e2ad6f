"""One door to every causal language model. Called by ``training``, ``deployment/host.py``, ``worker`` and tests."""

from pathlib import Path

import torch

from luthier.models.decoder import DecoderModel
from luthier.models.decoder_config import parse
from luthier.models.facts import read_config, read_facts
from luthier.models.language_model import LanguageModel


def load_model(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32, quantization: str | None = None) -> LanguageModel:
    """Read a model folder: by the fast decoder where it understands the config, else by transformers.

    Args:
        folder: in Hugging Face's format, with safetensors weights.
        device: of torch.
        dtype: of the weights in memory, whatever the files hold.
        quantization: ``nf4`` holds the linear layers of the blocks in 4 bits, for an adapter to train over; ``dtype`` is then what they
            are computed in.

    Raises:
        InvalidRequest: the folder is unsafe, incomplete or torn (see ``facts.check_folder``), nothing here can read it, or 4 bits are
            asked for where bitsandbytes is not installed.
    """
    facts = read_facts(folder)
    config = parse(read_config(folder))
    if config is not None:
        return DecoderModel(folder, config, facts, device=device, dtype=dtype, packed=quantization is not None)
    # transformers and peft take seconds to import; only a model that needs them pays.
    from luthier.models.transformers_model import TransformersModel

    return TransformersModel(folder, facts, device=device, dtype=dtype, packed=quantization is not None)
