"""A job that ends early or keeps its best epoch: which files become the model, and what stands in the list of checkpoints."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from luthier.core.errors import Unavailable
from luthier.core.jobs import JobStatus, ModelRecord
from luthier.models.checkpoint import verify_folder
from luthier.trace.events import ModelChosen, ModelPublished, TraceEvent
from luthier.trace.reader import read_events
from luthier.worker import pipelines
from tests.unit.worker.test_pause_checkpoint import STEPS_PER_EPOCH, Shop

EARLY = {"early_stopping": {"patience": 1, "min_delta": 100.0}}
"""No epoch is so much better than the first: training ends after the second, and the first is kept."""


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[list[Shop]]:
    made: list[Shop] = []
    yield made
    for shop in made:
        shop.database.close()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation and deployment, which need an engine, are left out; everything before and after them is the job's own."""

    def published(*_: object, tuned, num_bytes, **_others) -> ModelPublished:
        return ModelPublished(model_name=tuned.name, bytes=num_bytes, load_seconds=0.0, first_token_seconds=0.0, tokens_per_second=1.0)

    monkeypatch.setattr(pipelines, "evaluate_stage", lambda *_, **__: None)
    monkeypatch.setattr(pipelines, "deploy_stage", published)


def _open(shops: list[Shop], folder: Path, *, options: dict, epochs: int = 5) -> Shop:
    shop = Shop(folder / "data", epochs=epochs, options=options)
    shops.append(shop)
    return shop


def _folder(shop: Shop, name: str) -> Path:
    record = shop.models.get(name)
    assert isinstance(record, ModelRecord)
    verify_folder(folder := shop.settings.data_dir / record.path)
    return folder


def _tensors(shop: Shop, name: str) -> dict[str, list[float]]:
    return {key: t.flatten().tolist() for key, t in load_file(str(_folder(shop, name) / "adapter_model.safetensors")).items()}


def _ignore(_: TraceEvent) -> None:
    pass


def _check_kept_first(shop: Shop) -> None:
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    assert job.status is JobStatus.SUCCEEDED
    model = job.fine_tuned_model
    assert model is not None
    last, final = shop.jobs.checkpoints(shop.job_id).items
    assert [(p.step_number, p.model_name == model) for p in (last, final)] == [(6, False), (3, True)]
    assert final.metrics["step"] == 3
    assert final.metrics["full_valid_loss"] != last.metrics["full_valid_loss"]
    first = next(m.rpartition(" ")[2] for m in shop.messages() if m.startswith("Checkpoint created at step 3 "))
    assert _tensors(shop, model) == _tensors(shop, first), "the name that it had as a checkpoint still answers"
    assert _tensors(shop, model) != _tensors(shop, last.model_name)
    assert len({_folder(shop, name) for name in (model, first, last.model_name)}) == 3, "each has files of its own"
    (told,) = [m for m in shop.messages() if m.startswith("Training ended")]
    assert told.startswith("Training ended after epoch 2 of 5: for 1 epoch no held-out loss was at least 100 lower.")
    assert told.endswith("the weights of step 3 become the model, not those of step 6")


@pytest.mark.usefixtures("deployed")
def test_the_kept_epoch_is_the_model_and_all_checkpoints_stay_callable(shops: list[Shop], tmp_path: Path) -> None:
    shop = _open(shops, tmp_path, options=EARLY)
    shop.attempt(_ignore)
    _check_kept_first(shop)
    assert any(m.startswith("Decided early_stopping = 1:") for m in shop.messages())


def test_a_pause_after_the_choice_changes_nothing_of_it(shops: list[Shop], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    shop = _open(shops, tmp_path, options=EARLY)
    with pytest.raises(Unavailable):
        shop.attempt(_ignore, engine_called=shop.pause)
    assert shop.steps() == [6, 3]
    shop.control.resume(shop.job_id)
    request.getfixturevalue("deployed")
    shop.attempt(_ignore)
    _check_kept_first(shop)
    chosen = [e.payload for e in read_events(shop.log)[0] if isinstance(e.payload, ModelChosen)]
    assert len(chosen) == 1


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("keep", ["best", "last"])
def test_where_the_last_epoch_is_kept_the_list_is_as_always(shops: list[Shop], tmp_path: Path, keep: str) -> None:
    shop = _open(shops, tmp_path, options={"keep": keep}, epochs=2)
    shop.attempt(_ignore)
    job = shop.jobs.get(shop.job_id)
    assert job is not None
    points = shop.jobs.checkpoints(shop.job_id).items
    assert [p.step_number for p in points] == [2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH]
    assert points[0].model_name == job.fine_tuned_model
    assert points[0].metrics["full_valid_loss"] < points[1].metrics["full_valid_loss"]
    assert [m for m in shop.messages() if "the last checkpoint (step 6) becomes the model" in m] == (
        [] if keep == "last" else [shop.messages()[-4]]
    )
