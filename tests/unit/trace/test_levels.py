"""Numbers for charts: any stretch of a run in few points, the same as from all its steps; resumed runs write over what they repeat."""

import math
import random
from pathlib import Path

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import EpochDone, StepDone, TraceEvent
from luthier.trace.levels import FAN, FOLDER, LevelWriter, num_steps, rebuild, series


def step_event(step: int, loss: float, total: int = 5000, **more: object) -> TraceEvent:
    payload = StepDone(
        step=step,
        total_steps=total,
        epoch=1,
        loss=loss,
        token_accuracy=step / total,
        num_tokens=10,
        learning_rate=0.001 * step,
        grad_norm=2.0,
        seconds=0.1,
        **more,  # type: ignore[arg-type]
    )
    return TraceEvent(id=step, run="ftjob-a", attempt=1, stage=Stage.TRAINING, time=float(step), payload=payload)


def epoch_event(step: int, loss: float) -> TraceEvent:
    payload = EpochDone(
        epoch=1,
        n_epochs=1,
        step=step,
        train_loss=1.0,
        train_accuracy=0.5,
        valid_loss=loss,
        valid_accuracy=0.75,
        seconds=1.0,
        sample_loss=None,
    )
    return TraceEvent(id=10_000 + step, run="ftjob-a", attempt=1, stage=Stage.TRAINING, time=1.0, payload=payload)


def losses(count: int) -> list[float]:
    draw = random.Random(3)
    return [draw.uniform(0.1, 5.0) for _ in range(count)]


def write(folder: Path, events: list[TraceEvent]) -> None:
    rebuild(folder, events)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 256, 257, 4096, 5000])
@pytest.mark.parametrize("points", [1, 7, 100, 10_000])
def test_buckets_are_the_lowest_mean_and_highest_of_their_steps(tmp_path, count, points):
    values = losses(count)
    write(tmp_path, [step_event(n, loss) for n, loss in enumerate(values, start=1)])
    found = series(tmp_path, points=points)
    size, drawn = found["bucket"], found["series"]
    assert found["steps"] == num_steps(tmp_path) == count
    assert len(drawn["step"]) <= points
    for at in range(-(-count // size)):
        group = values[at * size : (at + 1) * size]
        assert drawn["step"][at] == min(count, (at + 1) * size)
        assert drawn["train_loss_min"][at] == pytest.approx(min(group), rel=1e-6)
        assert drawn["train_loss_max"][at] == pytest.approx(max(group), rel=1e-6)
        assert drawn["train_loss_mean"][at] == pytest.approx(math.fsum(group) / len(group), rel=1e-5)
        assert drawn["grad_norm_mean"][at] == 2.0


def test_a_stretch_is_read_alone(tmp_path):
    write(tmp_path, [step_event(n, float(n)) for n in range(1, 1001)])
    found = series(tmp_path, points=50, first=501, last=520)
    assert found["bucket"] == 1
    assert found["series"]["train_loss_mean"] == [float(n) for n in range(501, 521)]


def test_a_resumed_run_writes_over_the_steps_that_it_repeats(tmp_path):
    write(tmp_path, [step_event(n, 9.0) for n in range(1, 41)])
    write(tmp_path, [step_event(n, 1.0) for n in range(20, 65)])
    assert series(tmp_path, points=1000)["series"]["train_loss_mean"] == [9.0] * 19 + [1.0] * 45
    assert series(tmp_path, points=4)["series"]["train_loss_max"] == [9.0, 9.0, 1.0, 1.0]


def test_a_skipped_step_is_no_point_and_what_is_not_finite_is_null(tmp_path):
    write(tmp_path, [step_event(1, 1.0), step_event(3, float("nan")), step_event(4, 2.0)])
    drawn = series(tmp_path, points=100)["series"]
    assert (drawn["step"], drawn["train_loss_mean"]) == ([1, 3, 4], [1.0, None, 2.0])
    assert drawn["tokens_per_second"] == [None] * 3
    assert series(tmp_path, points=1)["series"]["train_loss_mean"] == [1.5]


def test_validations_stand_beside_and_the_whole_file_counts_more(tmp_path):
    sample = step_event(2, 1.0, valid_loss=0.5, valid_accuracy=0.6)
    write(tmp_path, [step_event(1, 1.0), sample, epoch_event(2, 0.25), sample])
    assert series(tmp_path, points=10)["series"]["valid"] == {"step": [2], "loss": [0.25], "accuracy": [0.75], "full": [True]}


def test_a_run_without_files_has_no_points_and_a_torn_record_is_left_out(tmp_path):
    assert series(tmp_path, points=10)["series"]["step"] == []
    write(tmp_path, [step_event(n, 1.0) for n in range(1, FAN + 1)])
    with (tmp_path / FOLDER / "0").open("ab") as file:
        file.write(b"\1\2\3")
    assert series(tmp_path, points=100)["series"]["step"] == list(range(1, FAN + 1))
    writer = LevelWriter(tmp_path)
    writer(step_event(FAN + 1, 7.0))
    writer.close()
    assert series(tmp_path, points=100)["series"]["train_loss_mean"][-1] == 7.0
