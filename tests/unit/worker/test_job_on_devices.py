"""A whole job on two devices, through the worker's pipeline: what the setting leads to, what is told, and a pause."""

from pathlib import Path
from typing import Any

import pytest

from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.jobs import JobStatus
from luthier.models import device
from luthier.models.load import load_model
from luthier.trace.events import ModelPublished, SpecResolved, StepDone, TraceEvent
from luthier.worker import floor, pipelines, placing
from luthier.worker.spec_file import read_spec
from tests.unit.worker.test_pause_checkpoint import TOTAL, Shop

DEVICES = device._devices


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Evaluation and deployment, which need an engine, are left out. Devices of the models that the job's training loaded."""

    def published(*_: object, tuned: Any, num_bytes: int, **_others: object) -> ModelPublished:
        return ModelPublished(model_name=tuned.name, bytes=num_bytes, load_seconds=0.0, first_token_seconds=0.0, tokens_per_second=1.0)

    monkeypatch.setattr(pipelines, "evaluate_stage", lambda *_, **__: None)
    monkeypatch.setattr(pipelines, "deploy_stage", published)
    seen: list[str] = []

    def load(*args: Any, device: str, **options: Any) -> Any:
        seen.append(device)
        return load_model(*args, device=device, **options)

    monkeypatch.setattr(floor, "load_model", load)
    monkeypatch.setattr(placing, "load_model", load)
    return seen


def set_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The setting names so many, all of which are the CPU, where torch has one alone."""
    monkeypatch.setattr(device, "_devices", lambda _: (("cpu", "As set by LUTHIER_DEVICE."), ("cpu",) * (count - 1)))


def losses(told: list[TraceEvent]) -> list[float]:
    return [event.payload.loss for event in told if isinstance(event.payload, StepDone)]


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_job_trains_on_both_devices_and_learns_the_same(tmp_path: Path, loaded: list[str], monkeypatch, adapter: str) -> None:
    found = []
    for count in (1, 2):
        set_devices(monkeypatch, count)
        shop, told = Shop(tmp_path / str(count), options={"adapter": adapter}), []
        shop.attempt(told.append)
        job = shop.jobs.get(shop.job_id)
        shop.database.close()
        assert job is not None
        assert job.status is JobStatus.SUCCEEDED
        found.append((losses(told), next(event.payload for event in told if isinstance(event.payload, SpecResolved))))
    assert loaded == ["cpu", "cpu", "cpu"]
    (alone, one), (both, two) = found
    assert len(both) == TOTAL
    # The base may be bfloat16 here, as the processor is.
    assert both == pytest.approx(alone, rel=0.03)
    assert one.spec["more_devices"] == () != two.spec["more_devices"]
    assert [d for d in one.decisions if d["name"] == "devices"] == []
    (decision,) = [d for d in two.decisions if d["name"] == "devices"]
    assert decision["value"] == "cpu, cpu"
    assert decision["reason"].startswith("As set by LUTHIER_DEVICE: each step's rows are dealt over these devices")


def test_a_paused_job_goes_on_with_its_devices_whatever_the_setting_says_now(tmp_path: Path, loaded: list[str], monkeypatch) -> None:
    set_devices(monkeypatch, 2)
    straight, whole = Shop(tmp_path / "straight"), []
    straight.attempt(whole.append)
    straight.database.close()
    shop, told = Shop(tmp_path / "torn"), []
    shop.attempt(shop.after_step(2, shop.pause))
    known = read_spec(shop.log.parent)
    assert known is not None
    assert known[0].more_devices == ("cpu",)
    monkeypatch.setattr(device, "_devices", DEVICES)
    shop.control.resume(shop.job_id)
    shop.attempt(told.append)
    shop.database.close()
    assert losses(told) == losses(whole)[2:]


def test_a_job_whose_second_device_is_gone_says_so(tmp_path: Path, loaded: list[str], monkeypatch) -> None:
    set_devices(monkeypatch, 2)
    shop = Shop(tmp_path / "data")
    shop.attempt(shop.after_step(2, shop.pause))
    shop.control.resume(shop.job_id)

    def gone(_: str) -> Any:
        raise InvalidRequest("LUTHIER_DEVICE is cuda:1, but torch sees 1 GPUs here.")

    monkeypatch.setattr(device, "_devices", gone)
    with pytest.raises(JobFailure, match=r"The run began on another machine\. LUTHIER_DEVICE is cuda:1") as caught:
        shop.attempt(lambda _: None)
    assert caught.value.code == "device_unavailable"
    shop.database.close()
