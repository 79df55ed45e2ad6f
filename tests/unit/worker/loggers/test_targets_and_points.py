"""Where a job's numbers go, and which numbers: once each, finite, with the names that the guide tells."""

import dataclasses
import math

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings
from luthier.core.stage import Stage
from luthier.worker.loggers.files import LoggerFiles
from luthier.worker.loggers.points import Place, Told
from luthier.worker.loggers.targets import LoggerKind, target_from_json, targets_of
from tests.support.office import new_job
from tests.support.trace_logs import epoch, events_of, measured, step, whole_run


def test_a_job_without_integrations_on_a_server_without_loggers_has_none():
    assert targets_of(new_job(), Settings()) == ()


def test_integrations_come_first_and_are_named_after_the_job_unless_they_have_a_name():
    job = new_job(
        integrations=[
            {"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}},
            {"type": "wandb", "wandb": {"project": "q", "name": "n", "entity": "e"}},
        ]
    )
    found = targets_of(job, Settings(mlflow_uri="http://m", tensorboard_dir="/tb", trackio_project="t"))
    assert [one.key for one in found] == ["wandb", "wandb-2", "mlflow", "tensorboard", "trackio"]
    assert found[0].options == {"name": job.id, "project": "p", "tags": ["a"]}
    assert found[1].options == {"name": "n", "project": "q", "entity": "e"}
    assert found[2].options == {"uri": "http://m", "experiment": "luthier"}
    assert [target_from_json(one.to_json()) for one in found] == list(found)


def test_a_project_that_is_named_twice_gets_one_run():
    one = {"type": "wandb", "wandb": {"project": "p"}}
    assert len(targets_of(new_job(integrations=[one, one]), Settings())) == 1


def _told(events, place=None) -> list[Told]:
    place = place or Place()
    return [told for event in events if (told := place.take(event)) is not None]


def test_a_whole_run_is_told_once_though_a_step_was_repeated():
    told = _told(whole_run())
    points = [one.point for one in told if one.point is not None]
    assert [p.step for p in points] == [0, 1, 2, 2, 3, 4, 4]
    assert points[0].metrics == {"base/valid_loss": 3.5, "base/valid_token_accuracy": 0.25}
    assert points[4].metrics["train/loss"] == 1.75, "a repeated step is the same; the first report stands"
    assert points[5].metrics == {
        "train/loss": 1.0,
        "train/token_accuracy": 0.5,
        "train/num_tokens": 40.0,
        "train/learning_rate": 1e-3,
        "train/grad_norm": 0.7,
        "train/epoch": 2.0,
        "valid/loss": 1.0,
        "valid/token_accuracy": 0.625,
        "perf/tokens": 120.0,
        "perf/tokens_per_second": 2400.0,
        "perf/padding_share": 0.25,
        "perf/memory_bytes": 4e8,
        "perf/flops_utilization": 0.5,
        "perf/step_seconds": 0.05,
    }
    assert points[3].metrics["epoch/valid_loss"] == 1.25
    configs = [one.config for one in told if one.config is not None]
    assert configs[0] == {"model": "gpt-4o-mini-2024-07-18", "base": "luthier-mini"}
    assert configs[1]["learning_rate"] == 0.001
    (summary,) = [one.summary for one in told if one.summary is not None]
    assert summary["evaluation/tuned_exact_match"] == 0.75
    assert summary["evaluation/better"] == 3
    assert told[-1].status == "succeeded"


def test_a_later_process_goes_on_where_the_one_before_was(tmp_path):
    files = LoggerFiles(tmp_path, "wandb")
    assert files.read_place() == Place()
    events = whole_run()
    place = files.read_place()
    first = _told(events[:12], place)
    files.write_place(place)
    rest = _told(events, files.read_place())
    assert [*first, *rest] == _told(events)


def test_a_damaged_place_is_the_beginning(tmp_path):
    files = LoggerFiles(tmp_path, "mlflow")
    for text in ("", "{", "[]", '{"last_id": "x"}', '{"last_id": null, "last_step": 1, "last_epoch": 1}'):
        (files.folder / "mlflow.json").write_text(text)
        assert files.read_place() == Place()


def test_what_is_no_number_is_left_out():
    event = events_of([(Stage.TRAINING, dataclasses.replace(measured(step(1)), loss=math.nan, grad_norm=math.inf))])[0]
    (told,) = _told([event])
    assert told.point is not None
    assert "train/loss" not in told.point.metrics
    assert "train/grad_norm" not in told.point.metrics
    assert "valid/loss" not in told.point.metrics, "nothing was validated after this step"


def test_an_epoch_is_told_once():
    events = events_of(
        [(Stage.TRAINING, epoch(1, 1.0, None)), (Stage.TRAINING, epoch(1, 1.0, None)), (Stage.TRAINING, epoch(2, 0.5, None))]
    )
    assert [one.point.step for one in _told(events) if one.point is not None] == [2, 4]


def test_an_error_is_one_short_line_that_no_terminal_obeys(tmp_path):
    files = LoggerFiles(tmp_path, "trackio")
    files.write_error("bad\n\x1b[31mnews\ud800 " + "x" * 1000)
    text = files.take_error()
    assert text.startswith("bad ?[31mnews? xxx")
    assert len(text) == 300
    assert files.take_error() == ""


@pytest.mark.parametrize("key", ["../x", "a/b", "", "."])
def test_a_key_cannot_lead_elsewhere(tmp_path, key):
    with pytest.raises(InvalidRequest):
        LoggerFiles(tmp_path, key)


def test_every_kind_is_an_extra_of_the_package():
    import tomllib
    from pathlib import Path

    extras = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {kind.value for kind in LoggerKind} <= extras.keys()
