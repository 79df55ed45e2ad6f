"""``luthier jobs forecast`` on a machine with a GPU, as a stand-in tells of it: its memory is what counts, not the machine's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from luthier.core.settings import Settings
from luthier.core.specs import Hyperparameters, LuthierOptions, TuningMethod
from luthier.models.device import Placement
from luthier.worker import forecast_child, forecasting, start
from luthier.worker.forecast_job import find_model
from luthier.worker.forecast_order import ForecastOrder
from luthier.worker.machine import DeviceMemory
from tests.support.examples import chat_file

CARD = DeviceMemory(device="cuda", name="NVIDIA X", total_bytes=24_000_000_000, free_bytes=0, held_bytes=0)


@pytest.fixture
def forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forecasts a job, without a dry run, where so much is free on the GPU."""

    def placement(_device: str, _precision: str, method: TuningMethod, **_more: object) -> Placement:
        numbers = "float32" if method is TuningMethod.FULL else "bfloat16"
        return Placement(device="cuda", precision=numbers, device_reason="", precision_reason="")

    def again(spec: Any) -> Placement:
        return Placement(device=spec.device, precision=spec.precision, device_reason="", precision_reason="")

    monkeypatch.setattr(start, "training_placement", placement)
    for module in (forecasting, forecast_child):
        monkeypatch.setattr(module, "placed" if module is forecasting else "placement_of", again)
    path = tmp_path / "train.jsonl"
    path.write_bytes(chat_file(12))

    def measured(free: int, **options: Any) -> dict[str, Any]:
        monkeypatch.setattr(forecasting, "device_memory", lambda _device: replace(CARD, free_bytes=free))
        settings = Settings(data_dir=tmp_path / "data", train_memory_bytes=1)  # of the machine: it says nothing here
        base, parent = find_model(settings, "luthier-mini")
        order = ForecastOrder(
            settings=settings,
            asked_model="luthier-mini",
            base=base,
            parent=parent,
            training=path,
            validation=None,
            hyperparameters=Hyperparameters(n_epochs=1),
            options=LuthierOptions(**options),
            seed=0,
            seconds=0.0,
        )
        return forecast_child.measure(order, lambda _what: None)

    return measured


def test_what_fits_on_the_gpu_fits(forecast: Any) -> None:
    found = forecast(20_000_000_000)
    assert found["fits"]
    assert found["refusal"] is None
    assert found["forecast"]["available_bytes"] == 18_400_000_000
    assert 20_000_000 < found["forecast"]["peak_bytes"]["likely"] < 500_000_000
    full = forecast(20_000_000_000, adapter=TuningMethod.FULL)
    assert full["forecast"]["peak_bytes"]["likely"] > 8_500_000 * 16


def test_what_does_not_is_refused_with_what_would_help(forecast: Any) -> None:
    found = forecast(int(700_000_000 / 0.95), adapter=TuningMethod.FULL)
    assert not found["fits"]
    assert "memory on cuda (NVIDIA X), even with each row alone" in found["refusal"]
    assert found["cures"][0]["changes"] == {"adapter": '"lora"'}
    assert found["cures"][0]["peak_bytes"] <= found["forecast"]["available_bytes"]
