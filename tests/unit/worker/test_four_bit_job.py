"""A whole job over a base in 4 bits, through the worker's pipeline: what it trains on, what it says, and the adapter that it leaves."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from luthier.core.jobs import JobStatus, ModelRecord
from luthier.models.checkpoint import verify_folder
from luthier.models.load import load_model
from luthier.trace.events import BaseMeasured, ModelPublished, SpecResolved, TraceEvent
from luthier.worker import floor, pipelines
from tests.support.four_bits import needs_bitsandbytes
from tests.unit.worker.test_pause_checkpoint import Shop

pytestmark = needs_bitsandbytes


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation and deployment, which need an engine, are left out; everything before and after them is the job's own."""

    def published(*_: object, tuned: Any, num_bytes: int, **_others: object) -> ModelPublished:
        return ModelPublished(model_name=tuned.name, bytes=num_bytes, load_seconds=0.0, first_token_seconds=0.0, tokens_per_second=1.0)

    monkeypatch.setattr(pipelines, "evaluate_stage", lambda *_, **__: None)
    monkeypatch.setattr(pipelines, "deploy_stage", published)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """How each model that the job loaded is held."""
    seen: list[str | None] = []

    def load(*args: Any, quantization: str | None = None, **options: Any) -> Any:
        seen.append(quantization)
        return load_model(*args, quantization=quantization, **options)

    monkeypatch.setattr(floor, "load_model", load)
    return seen


def _run(folder: Path, options: dict[str, Any]) -> tuple[Path, list[TraceEvent]]:
    """The finished model's folder, and what was told on the way."""
    shop, told = Shop(folder, options=options), []
    try:
        shop.attempt(told.append)
        job = shop.jobs.get(shop.job_id)
        assert job is not None
        assert job.status is JobStatus.SUCCEEDED
        assert job.fine_tuned_model is not None
        record = shop.models.get(job.fine_tuned_model)
        assert isinstance(record, ModelRecord)
        verify_folder(model := shop.settings.data_dir / record.path)
        return model, told
    finally:
        shop.database.close()


def _only(told: list[TraceEvent], kind: type) -> Any:
    (found,) = [event.payload for event in told if isinstance(event.payload, kind)]
    return found


def test_a_job_trains_over_4_bits_and_leaves_a_plain_adapter(tmp_path: Path, deployed: None, loaded: list[str | None]) -> None:
    packed, told = _run(tmp_path / "packed", {"quantization": "nf4", "rank": 4})
    plain, beside = _run(tmp_path / "plain", {"rank": 4})
    assert loaded == ["nf4", None]
    resolved = _only(told, SpecResolved)
    assert resolved.spec["quantization"] == "nf4"
    assert [d["value"] for d in resolved.decisions if d["name"] == "quantization"] == ["nf4"]
    base, other = _only(told, BaseMeasured), _only(beside, BaseMeasured)
    assert base.loss != other.loss
    assert base.loss == pytest.approx(other.loss, rel=0.1)
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (packed, plain)]
    assert configs[0] == configs[1]
    tensors = [load_file(str(folder / "adapter_model.safetensors")) for folder in (packed, plain)]
    assert {name: t.shape for name, t in tensors[0].items()} == {name: t.shape for name, t in tensors[1].items()}
    assert any(bool(t.any()) for name, t in tensors[0].items() if "lora_B" in name)
