"""A job whose learning rate is found by a test: once, kept for later attempts, begun anew where it was cut off, with the same bits."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from luthier.core.jobs import JobStatus
from luthier.trace.events import Forecasted, RangeTested, SpecResolved, StepDone, TraceEvent
from luthier.trace.reader import read_events
from luthier.trace.view import view_of
from luthier.training import range_test
from luthier.worker.range_testing import CURVE_FILE
from luthier.worker.spec_file import SPEC_FILE
from tests.unit.worker.test_kept_epoch import deployed as deployed
from tests.unit.worker.test_pause_checkpoint import Shop

STEPS = 20
"""The fewest: the run itself has six."""
pytestmark = pytest.mark.usefixtures("deployed")


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def new(name: str = "data", **others: object) -> Shop:
        made.append(Shop(tmp_path / name, multiplier="auto", options={"range_test": True, **others}))
        return made[-1]

    yield new
    for shop in made:
        shop.database.close()


def _ignore(_: TraceEvent) -> None:
    pass


def _payloads(shop: Shop, kind: type) -> list:
    return [event.payload for event in read_events(shop.log)[0] if isinstance(event.payload, kind)]


def _spec(shop: Shop) -> dict:
    return json.loads((shop.log.parent / SPEC_FILE).read_text(encoding="utf-8"))["spec"]


def _weights(shop: Shop) -> dict[str, list[float]]:
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.status is JobStatus.SUCCEEDED
    record = shop.models.get(str(job.fine_tuned_model))
    assert record is not None
    folder = shop.settings.data_dir / record.path
    (file,) = list(folder.glob("*.safetensors"))
    return {key: tensor.flatten().tolist() for key, tensor in load_file(str(file)).items()}


def _after_updates(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]) -> None:
    """Do something before the test's update of this number."""
    take_step, calls = range_test.take_step, []

    def counted(*arguments: object) -> None:
        calls.append(None)
        if len(calls) == number:
            act()
        take_step(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(range_test, "take_step", counted)


def test_the_rate_that_trains_is_the_one_that_was_found_and_is_explained(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.attempt(_ignore)
    (told,) = _payloads(shop, RangeTested)
    (resolved,) = _payloads(shop, SpecResolved)
    assert len(told.rates) == told.steps == STEPS
    assert told.lowest_rate is not None
    assert _spec(shop)["learning_rate"] == resolved.spec["learning_rate"] == told.learning_rate != told.base_rate
    multiplier = 1.8 * told.learning_rate / told.base_rate
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.hyperparameters["learning_rate_multiplier"] == pytest.approx(multiplier)
    assert max(step.learning_rate for step in _payloads(shop, StepDone)) == told.learning_rate
    curve = json.loads((shop.log.parent / CURVE_FILE).read_text(encoding="utf-8"))
    assert (curve["rates"], curve["curve"]) == (list(told.rates), list(told.curve))
    messages = shop.messages()
    assert any(m.startswith("Range test of the learning rate: 20 of 20 steps in ") for m in messages)
    assert any(m.startswith("Decided learning_rate = ") and "Half a decade below the rate" in m for m in messages)
    assert any(m.startswith("Decided learning_rate_multiplier = ") and "range test" in m for m in messages)
    assert any(m.startswith("Decided range_test = 20: As asked") for m in messages)
    assert view_of(read_events(shop.log)[0]).range_test == told
    parts = {part["name"]: part["seconds"]["likely"] for part in _payloads(shop, Forecasted)[0].forecast["parts"]}
    assert parts["range_test"] > 0


def test_a_full_tuning_is_tested_on_weights_that_are_put_back(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(adapter="full")
    shop.attempt(_ignore)
    (told,) = _payloads(shop, RangeTested)
    assert told.changes[0] == pytest.approx(0.0, abs=1e-3)
    assert _spec(shop)["learning_rate"] == told.learning_rate
    assert _weights(shop)


def test_a_resumed_job_never_tests_again_and_ends_with_the_same_bits(open_shop: Callable[..., Shop]) -> None:
    straight, paused = open_shop("straight"), open_shop("paused")
    straight.attempt(_ignore)
    paused.attempt(paused.after_step(2, paused.pause))
    paused.control.resume(paused.job_id)
    paused.attempt(_ignore)
    assert len(_payloads(paused, RangeTested)) == 1
    assert _spec(paused) == _spec(straight)
    assert _weights(paused) == _weights(straight)


@pytest.mark.parametrize("how", ["pause", "stop", "crash"])
def test_a_test_that_was_cut_off_begins_anew_with_the_same_result(
    open_shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    straight, shop = open_shop("straight"), open_shop("cut")
    straight.attempt(_ignore)

    def crash() -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        _after_updates(patch, 5, {"pause": shop.pause, "stop": shop.stop.set, "crash": crash}[how])
        if how == "crash":
            with pytest.raises(RuntimeError, match="killed"):
                shop.attempt(_ignore)
        else:
            shop.attempt(_ignore)
    assert not (shop.log.parent / SPEC_FILE).exists(), "the numbers are not decided yet"
    assert (_payloads(shop, RangeTested), shop.steps()) == ([], [])
    if how == "pause":
        shop.control.resume(shop.job_id)
    shop.attempt(_ignore)
    assert len(_payloads(shop, RangeTested)) == 1
    assert _spec(shop) == _spec(straight)
    assert _weights(shop) == _weights(straight)


def test_without_the_option_nothing_is_tested(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "data", multiplier="auto")
    shop.attempt(shop.after_step(1, shop.stop.set))
    shop.database.close()
    assert _payloads(shop, RangeTested) == []
    assert not (shop.log.parent / CURVE_FILE).exists()
    assert _spec(shop)["range_steps"] == 0
    assert "range_test" not in {part["name"] for part in _payloads(shop, Forecasted)[0].forecast["parts"]}
