"""The rate rises, peaks once, and falls to just above zero."""

from dataclasses import replace

import pytest

from luthier.core.specs import Schedule
from luthier.training.schedule import learning_rate_at
from tests.support.trainable_model import prepared, spec_for


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_rise_peak_and_fall(warmup):
    spec = replace(spec_for(prepared()), warmup_steps=warmup, total_steps=20, learning_rate=1.0)
    rates = [learning_rate_at(step, spec) for step in range(1, 21)]
    assert rates.index(max(rates)) == warmup
    assert max(rates) == 1.0
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert 0 < rates[-1] < 0.1


def test_a_single_step_has_a_rate():
    assert learning_rate_at(1, replace(spec_for(prepared()), warmup_steps=0, total_steps=1)) > 0
    assert learning_rate_at(1, replace(spec_for(prepared()), warmup_steps=1, total_steps=1)) > 0


def _rates(**changes):
    spec = replace(spec_for(prepared()), **{"warmup_steps": 0, "total_steps": 5, "learning_rate": 1.0, **changes})
    return [learning_rate_at(step, spec) for step in range(1, spec.total_steps + 1)]


def test_each_schedule_has_its_values():
    assert _rates() == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert _rates(schedule=Schedule.CONSTANT) == [1.0] * 5
    # 0.5 * (1 + cos(pi * k / 5))
    assert _rates(schedule=Schedule.COSINE) == pytest.approx([1.0, 0.904508, 0.654508, 0.345492, 0.095492], abs=1e-6)
    assert _rates(min_rate_ratio=0.5) == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6])
    assert _rates(schedule=Schedule.COSINE, min_rate_ratio=0.5) == pytest.approx([1.0, 0.952254, 0.827254, 0.672746, 0.547746], abs=1e-6)


@pytest.mark.parametrize("schedule", list(Schedule))
def test_every_schedule_rises_first(schedule):
    assert _rates(schedule=schedule, warmup_steps=3, total_steps=8)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
