"""The rate rises, peaks once, and falls to just above zero."""

from dataclasses import replace

import pytest

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
