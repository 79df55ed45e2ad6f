"""How long a run still takes, told from what it took."""

import pytest

from luthier.trace.events import EpochDone, StepDone
from luthier.worker.pace import Pace


def step(number: int, seconds: float = 2.0, *, per_epoch: int = 10, epochs: int = 3) -> StepDone:
    return StepDone(
        step=number,
        total_steps=per_epoch * epochs,
        epoch=1 + (number - 1) // per_epoch,
        loss=1.0,
        token_accuracy=0.5,
        num_tokens=3,
        learning_rate=1e-3,
        grad_norm=1.0,
        seconds=seconds,
    )


def epoch(number: int, seconds: float, *, per_epoch: int = 10, epochs: int = 3) -> EpochDone:
    return EpochDone(
        epoch=number,
        n_epochs=epochs,
        step=per_epoch * number,
        train_loss=0.5,
        train_accuracy=0.5,
        valid_loss=0.7,
        valid_accuracy=0.4,
        sample_loss=0.1,
        seconds=seconds,
    )


def test_the_steps_that_are_left_take_as_long_as_those_before() -> None:
    pace = Pace()
    assert pace.step_done(step(1)) == 58.0
    assert pace.step_done(step(2, 4.0)) == 28 * 3.0


def test_only_the_latest_steps_count() -> None:
    pace, left = Pace(), 0.0
    for number in range(1, 100):
        left = pace.step_done(step(number, 9.0 if number < 50 else 1.0, per_epoch=200))
    assert left == 501.0


def test_the_ends_of_the_epochs_to_come_count_too() -> None:
    pace = Pace()
    for number in range(1, 11):
        pace.step_done(step(number))
    pace.epoch_done(epoch(1, 10 * 2.0 + 7.0))
    assert pace.step_done(step(11)) == pytest.approx(19 * 2.0 + 2 * 7.0)
    for number in range(12, 21):
        pace.step_done(step(number))
    pace.epoch_done(epoch(2, 10 * 2.0 + 5.0))
    assert pace.step_done(step(21)) == pytest.approx(9 * 2.0 + 5.0)


def test_an_epoch_whose_beginning_was_not_seen_tells_nothing_of_its_end() -> None:
    pace = Pace()
    for number in range(6, 11):
        pace.step_done(step(number))
    pace.epoch_done(epoch(1, 10 * 2.0 + 7.0))
    assert pace.step_done(step(11)) == 19 * 2.0
