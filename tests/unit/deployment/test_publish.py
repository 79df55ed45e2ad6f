"""Publishing: a complete folder with its card, adopted by a later attempt, written anew when it is damaged."""

import json
from pathlib import Path

import pytest

from luthier.core.specs import TuningMethod
from luthier.deployment.publish import CARD_FILE, ModelCard, publish
from luthier.models.checkpoint import verify_folder
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from tests.support.mini import MINI


def card(method: TuningMethod) -> ModelCard:
    return ModelCard(
        job_id="ftjob-x", step=4, base="luthier-mini", base_revision="r", row_format="chat", chat_template="{{ x }}", method=method
    )


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    model = load_model(MINI)
    model.add_adapter("tuned", rank=2, alpha=4.0, seed=1)
    return model


@pytest.mark.parametrize(
    ("method", "weights"), [(TuningMethod.LORA, "adapter_model.safetensors"), (TuningMethod.FULL, "model.safetensors")]
)
def test_the_folder_is_complete_and_says_what_it_is(model: LanguageModel, tmp_path: Path, method: TuningMethod, weights: str) -> None:
    folder = tmp_path / "published"
    published = publish(model, adapter="tuned", folder=folder, card=card(method))
    assert verify_folder(folder)["meta"]["job_id"] == "ftjob-x"
    assert (folder / weights).is_file()
    assert json.loads((folder / CARD_FILE).read_text())["chat_template"] == "{{ x }}"
    assert published.bytes >= (folder / weights).stat().st_size
    if method is TuningMethod.FULL:
        assert load_model(folder).facts.num_parameters == model.facts.num_parameters


def test_a_later_attempt_adopts_the_folder_and_mends_a_damaged_one(model: LanguageModel, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    first = publish(model, adapter="tuned", folder=folder, card=card(TuningMethod.LORA))
    weights = folder / "adapter_model.safetensors"
    written_at = weights.stat().st_mtime_ns
    assert publish(model, adapter="tuned", folder=folder, card=card(TuningMethod.LORA)) == first
    assert weights.stat().st_mtime_ns == written_at
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    assert publish(model, adapter="tuned", folder=folder, card=card(TuningMethod.LORA)).sha256
    verify_folder(folder)
