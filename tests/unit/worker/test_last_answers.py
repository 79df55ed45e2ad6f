"""The last epoch's fixed prompts are answered while the model is being deployed: told before its name, once, and by its weights."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.core.errors import Unavailable
from luthier.core.jobs import JobStatus
from luthier.trace.events import EpochDone, ModelChosen, ModelPublished, PromptsAnswered, RunFinished, RunStarted, TraceEvent
from luthier.trace.reader import read_events
from luthier.worker import pipelines
from luthier.worker.fixed_prompts import FixedPrompts
from tests.unit.worker.test_pause_checkpoint import TOTAL, Shop

EPOCHS = 2


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[list[Shop]]:
    made: list[Shop] = []
    yield made
    for shop in made:
        shop.database.close()


@pytest.fixture
def answered() -> threading.Event:
    """Set when the last epoch's answers are told."""
    return threading.Event()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, answered: threading.Event) -> None:
    """A deployment that takes until the last answers are told."""

    def published(*_: object, tuned, num_bytes, **_others) -> ModelPublished:
        assert answered.wait(120.0)
        return ModelPublished(model_name=tuned.name, bytes=num_bytes, load_seconds=0.0, first_token_seconds=0.0, tokens_per_second=1.0)

    monkeypatch.setattr(pipelines, "evaluate_stage", lambda *_, **__: None)
    monkeypatch.setattr(pipelines, "deploy_stage", published)


def _open(shops: list[Shop], folder: Path, *, options: dict | None = None) -> Shop:
    shop = Shop(folder, epochs=EPOCHS, options=options)
    shops.append(shop)
    return shop


def _attempt(shop: Shop, answered: threading.Event) -> None:
    def watch(event: TraceEvent) -> None:
        if isinstance(event.payload, PromptsAnswered) and event.payload.epoch == EPOCHS:
            answered.set()

    shop.attempt(watch)


def _payloads(shop: Shop) -> list[object]:
    return [event.payload for event in read_events(shop.log)[0]]


def _last_answers(shop: Shop) -> list[PromptsAnswered]:
    return [p for p in _payloads(shop) if isinstance(p, PromptsAnswered) and p.epoch == EPOCHS]


def _places(shop: Shop, *kinds: type) -> list[int]:
    """Where the last event of each kind stands in the log."""
    payloads = _payloads(shop)
    return [max(i for i, payload in enumerate(payloads) if isinstance(payload, kind)) for kind in kinds]


def _status(shop: Shop) -> JobStatus:
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    return job.status


@pytest.mark.usefixtures("deployed")
def test_deployment_does_not_wait_for_them_and_the_name_does(shops: list[Shop], tmp_path: Path, answered: threading.Event) -> None:
    shop, asked_at_once = _open(shops, tmp_path / "beside"), _open(shops, tmp_path / "at_once", options={"keep": "best"})
    for each in (shop, asked_at_once):
        answered.clear()
        _attempt(each, answered)
        assert _status(each) is JobStatus.SUCCEEDED
    places = _places(shop, EpochDone, PromptsAnswered, ModelPublished, RunFinished)
    assert places == sorted(places)
    # The best epoch was the last one there: the same weights.
    assert _last_answers(shop) == _last_answers(asked_at_once)
    assert _last_answers(shop)[0].answers


@pytest.mark.usefixtures("deployed")
def test_where_the_model_is_chosen_they_come_before_the_choice(shops: list[Shop], tmp_path: Path, answered: threading.Event) -> None:
    # No epoch is so much better than the first: that one's weights are put back and become the model.
    shop = _open(shops, tmp_path / "data", options={"early_stopping": {"patience": 1, "min_delta": 100.0}})
    _attempt(shop, answered)
    places = _places(shop, EpochDone, PromptsAnswered, ModelChosen, ModelPublished)
    assert places == sorted(places)
    assert len(_last_answers(shop)) == 1


@pytest.mark.usefixtures("deployed")
def test_what_a_crash_left_unanswered_the_next_attempt_answers(
    shops: list[Shop], tmp_path: Path, answered: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = _open(shops, tmp_path / "data")

    def crash(_prompts: FixedPrompts, epoch: int) -> None:
        if epoch == EPOCHS:
            answered.set()
            raise RuntimeError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(FixedPrompts, "answer", crash)
        with pytest.raises(RuntimeError, match="gone"):
            _attempt(shop, answered)
    assert _status(shop) is JobStatus.RUNNING, "nothing is published before they are told"
    answered.clear()
    _attempt(shop, answered)
    assert _status(shop) is JobStatus.SUCCEEDED
    assert len(_last_answers(shop)) == 1
    started = [p for p in _payloads(shop) if isinstance(p, RunStarted)]
    assert started[-1].resumed_from_step == TOTAL


def test_what_was_answered_before_a_pause_is_not_answered_again(
    shops: list[Shop], tmp_path: Path, answered: threading.Event, request: pytest.FixtureRequest
) -> None:
    shop = _open(shops, tmp_path / "data")
    with pytest.raises(Unavailable):
        shop.attempt(lambda _event: None, engine_called=shop.pause)
    assert len(_last_answers(shop)) == 1
    shop.control.resume(shop.job_id)
    request.getfixturevalue("deployed")
    answered.set()
    _attempt(shop, answered)
    assert _status(shop) is JobStatus.SUCCEEDED
    assert len(_last_answers(shop)) == 1
