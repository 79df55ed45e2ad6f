"""A job whose epochs and rate wait for a look at the base: once, kept for later attempts, told before its first step, foretold alike."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from luthier.core.jobs import JobStatus, ModelKind
from luthier.core.settings import Settings
from luthier.core.specs import Hyperparameters, LuthierOptions
from luthier.trace.events import EpochDone, Forecasted, RangeTested, SpecResolved, StageFinished, StageStarted, StepDone, TraceEvent
from luthier.trace.reader import read_events
from luthier.training import base_rule
from luthier.worker import base_probing
from luthier.worker.forecast_child import measure
from luthier.worker.forecast_order import ForecastOrder
from luthier.worker.spec_file import SPEC_FILE
from tests.support.examples import chat_file
from tests.support.office import new_model
from tests.unit.worker.test_kept_epoch import deployed as deployed
from tests.unit.worker.test_pause_checkpoint import BASE, Shop

pytestmark = pytest.mark.usefixtures("deployed")
USUAL_EPOCHS, FAR_EPOCHS, STEPS_PER_EPOCH = 8, 10, 3
FAR_MULTIPLIER = 1.8 * 2 ** (2 / 3)
"""At the shop's batch of 4: what the batch takes off the rate is given back."""


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the base finds counts as far: the shop's rows are translations, which it half knows."""
    monkeypatch.setattr(base_rule, "FAR_SHARE", 0.0)


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def new(name: str = "data", *, epochs: Any = "auto", multiplier: Any = "auto", **options: object) -> Shop:
        made.append(Shop(tmp_path / name, epochs=epochs, multiplier=multiplier, options=options))
        return made[-1]

    yield new
    for shop in made:
        shop.database.close()


def _ignore(_: TraceEvent) -> None:
    pass


def _payloads(shop: Shop, kind: type) -> list:
    return [event.payload for event in read_events(shop.log)[0] if isinstance(event.payload, kind)]


def _spec(shop: Shop) -> dict[str, Any]:
    return json.loads((shop.log.parent / SPEC_FILE).read_text(encoding="utf-8"))["spec"]


def _weights(shop: Shop) -> dict[str, list[float]]:
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.status is JobStatus.SUCCEEDED
    record = shop.models.get(str(job.fine_tuned_model))
    assert record is not None
    (file,) = list((shop.settings.data_dir / record.path).glob("*.safetensors"))
    return {key: tensor.flatten().tolist() for key, tensor in load_file(str(file)).items()}


@pytest.mark.usefixtures("far")
def test_the_numbers_that_train_are_those_for_a_far_base_and_are_told(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.attempt(_ignore)
    spec, (resolved,) = _spec(shop), _payloads(shop, SpecResolved)
    assert (spec["n_epochs"], spec["total_steps"]) == (FAR_EPOCHS, FAR_EPOCHS * STEPS_PER_EPOCH)
    assert resolved.spec["n_epochs"] == len(_payloads(shop, EpochDone)) == FAR_EPOCHS
    assert max(step.learning_rate for step in _payloads(shop, StepDone)) == spec["learning_rate"] == pytest.approx(9e-4)
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.hyperparameters == {
        "n_epochs": FAR_EPOCHS,
        "batch_size": 4,
        "learning_rate_multiplier": pytest.approx(FAR_MULTIPLIER),
    }
    messages = shop.messages()
    assert any(
        m.startswith("Decided n_epochs = 10: 8 would be usual for 12 examples, but the base finds the answers of 12 ") for m in messages
    )
    assert any(m.startswith("Decided learning_rate_multiplier = 2.8") and "1.59 times the usual 1.8" in m for m in messages)


@pytest.mark.usefixtures("far")
def test_its_forecast_is_of_the_run_that_follows(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.attempt(_ignore)
    events = [event.payload for event in read_events(shop.log)[0]]
    first = next(i for i, payload in enumerate(events) if isinstance(payload, StepDone))
    before = [payload.forecast["total_steps"] for payload in events[:first] if isinstance(payload, Forecasted)]
    assert before == [USUAL_EPOCHS * STEPS_PER_EPOCH, FAR_EPOCHS * STEPS_PER_EPOCH]
    (ended,) = [payload for payload in events if isinstance(payload, StageFinished) and "epochs" in payload.shape_in]
    assert ended.shape_in == f"12 tokenized examples x {FAR_EPOCHS} epochs"
    started = [payload.shape_in for payload in events if isinstance(payload, StageStarted)]
    assert "12 tokenized examples" in started, "the epochs were not decided yet"


def test_a_base_that_half_knows_the_task_keeps_the_usual_numbers(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.attempt(_ignore)
    spec = _spec(shop)
    assert (spec["n_epochs"], spec["learning_rate_multiplier"]) == (USUAL_EPOCHS, 1.8)
    assert any(m.startswith("Decided learning_rate_multiplier = 1.8") and "it is not far from them." in m for m in shop.messages())
    assert not any("It may become more" in m for m in shop.messages())


@pytest.mark.parametrize("changes", [{"epochs": 2, "multiplier": 1.0}, {"adapter": "full", "epochs": 2}, {"epochs": 2, "range_test": True}])
def test_nobody_looks_where_it_does_not_count(
    open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    def unasked(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(base_probing, "probe_base", unasked)
    shop = open_shop(**changes)
    shop.attempt(shop.after_step(1, shop.stop.set))
    assert _spec(shop)["n_epochs"] == 2


def test_a_resumed_job_keeps_its_numbers_and_ends_with_the_same_bits(
    open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight, paused = open_shop("straight"), open_shop("paused")
    with monkeypatch.context() as patch:
        patch.setattr(base_rule, "FAR_SHARE", 0.0)
        straight.attempt(_ignore)
        paused.attempt(paused.after_step(2, paused.pause))
    paused.control.resume(paused.job_id)
    paused.attempt(_ignore)
    assert _spec(paused) == _spec(straight)
    assert _weights(paused) == _weights(straight)


@pytest.mark.usefixtures("far")
def test_a_job_that_died_before_it_was_decided_looks_again(open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    straight, shop = open_shop("straight"), open_shop("cut")
    straight.attempt(_ignore)

    def crash(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(base_probing, "write_spec", crash)
        with pytest.raises(RuntimeError, match="killed"):
            shop.attempt(_ignore)
    assert not (shop.log.parent / SPEC_FILE).exists()
    shop.attempt(_ignore)
    assert _spec(shop) == _spec(straight)
    assert _weights(shop) == _weights(straight)


@pytest.mark.usefixtures("far")
def test_with_a_range_test_the_epochs_are_decided_and_the_test_goes_around_the_usual_rate(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(range_test=True)
    shop.attempt(shop.after_step(1, shop.stop.set))
    (told,) = _payloads(shop, RangeTested)
    assert told.base_rate == pytest.approx(9e-4 / 2 ** (2 / 3))
    spec = _spec(shop)
    assert (spec["n_epochs"], spec["learning_rate"]) == (FAR_EPOCHS, told.learning_rate)


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize(("seconds", "epochs"), [(0.5, FAR_EPOCHS), (0.0, USUAL_EPOCHS)])
def test_a_forecast_decides_as_the_job_will_or_says_that_it_may_be_more(tmp_path: Path, seconds: float, epochs: int) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(chat_file(12))
    order = ForecastOrder(
        settings=Settings(data_dir=tmp_path / "data"),
        asked_model=BASE,
        base=new_model(BASE, kind=ModelKind.BASE, base=BASE, path=f"builtin:{BASE}"),
        parent=None,
        training=rows,
        validation=None,
        hyperparameters=Hyperparameters(batch_size=4),
        options=LuthierOptions(),
        seed=1,
        seconds=seconds,
    )
    made = measure(order, lambda _: None)
    (decided,) = [d for d in made["decisions"] if d["name"] == "n_epochs"]
    assert made["forecast"]["n_epochs"] == decided["value"] == epochs
    assert ("It may become more" in decided["reason"]) == (seconds == 0.0)
