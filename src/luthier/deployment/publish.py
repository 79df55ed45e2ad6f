"""Stage 5, first half: trained weights become a checksummed folder that can be served.

What it does: writes an adapter (PEFT format) or complete weights (Hugging Face format) with how prompts are rendered and
which base they belong to; manifest with hashes last. What it does not: register a name (the pipeline's transaction does)
or load it into the engine (``warm.py``). Called by ``worker/pipelines.py`` at each epoch's end.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.specs import TuningMethod
from luthier.models.checkpoint import CorruptFolder, folder_bytes, manifest_sha256, publish_folder, verify_folder
from luthier.models.language_model import LanguageModel

CARD_FILE = "luthier.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What a published folder says of itself."""

    job_id: str
    step: int
    base: str
    base_revision: str
    row_format: str
    """``chat`` or ``prompt_completion``: how ``/completions`` renders its prompt."""
    chat_template: str | None
    """The template the examples were rendered with; None where the base has none."""
    method: TuningMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFolder:
    """A complete folder on disk."""

    sha256: str
    bytes: int


def publish(model: LanguageModel, *, adapter: str, folder: Path, card: ModelCard) -> PublishedFolder:
    """Write the tuned weights, or adopt a complete folder that an earlier attempt of the same job left.

    Training is deterministic, so the folder of the same job and step holds the same weights.
    """
    if folder.exists():
        try:
            verify_folder(folder)
            return PublishedFolder(sha256=manifest_sha256(folder), bytes=folder_bytes(folder))
        except CorruptFolder:
            shutil.rmtree(folder)  # damaged since it was written; nobody serves it, and the same weights are here

    def write(target: Path) -> None:
        if card.method is TuningMethod.LORA:
            model.save_adapter(adapter, target, base_name=card.base)
        else:
            model.save_full(target)
        (target / CARD_FILE).write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False), encoding="utf-8")

    meta = {"job_id": card.job_id, "step": card.step, "base": card.base, "base_revision": card.base_revision}
    sha256 = publish_folder(folder, write, meta)
    return PublishedFolder(sha256=sha256, bytes=folder_bytes(folder))
