"""Steps done again after an interruption: what is told of them."""

from dataclasses import replace

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import Notice, ResumeSaved, StepDone, TraceEvent
from luthier.worker.repeated_steps import RepeatedSteps
from tests.support.trace_logs import step


def log_of(*steps: StepDone | ResumeSaved) -> list[TraceEvent]:
    notice = Notice(level="info", message="something else")
    payloads = [notice, *steps]
    return [TraceEvent(id=n, time=1.0, run="j", attempt=1, stage=Stage.TRAINING, payload=p) for n, p in enumerate(payloads, 1)]


def told(repeated: RepeatedSteps, *steps: StepDone) -> list[Notice]:
    return [news for each in steps if (news := repeated.step_done(each)) is not None]


STEPS = [replace(step(number, 2.0 / number), grad_norm=1.0 / number) for number in range(1, 8)]


def test_the_same_steps_are_told_once_at_the_last_that_was_known() -> None:
    repeated = RepeatedSteps(log_of(*STEPS[:5]), exact=True)
    (news,) = told(repeated, *STEPS[2:])
    assert news.level == "info"
    assert news.message == "Steps 3 to 5 were done before the interruption, and again now: losses and gradients are the same bit for bit."
    (one,) = told(RepeatedSteps(log_of(*STEPS[:5]), exact=False), *STEPS[4:])
    assert one.message == "Step 5 was done before the interruption, and again now: losses and gradients are the same up to rounding."


def test_nothing_is_told_where_no_step_is_done_again() -> None:
    assert told(RepeatedSteps([], exact=True), *STEPS) == []
    assert told(RepeatedSteps(log_of(*STEPS[:3]), exact=True), *STEPS[3:]) == []


@pytest.mark.parametrize("change", [{"loss": 2.0 / 3 + 1e-7}, {"grad_norm": 1.0 / 3 + 1e-7}])
def test_the_first_step_that_differs_is_told_and_none_after(change: dict) -> None:
    repeated = RepeatedSteps(log_of(*STEPS[:5]), exact=True)
    (news,) = told(repeated, STEPS[1], replace(STEPS[2], **change), replace(STEPS[3], loss=9.0), STEPS[4], STEPS[5])
    assert news.level == "warn"
    assert news.message.startswith("Step 3 was done before the interruption with a loss of 0.6666667 (gradient norm 0.3333333) and now has")


def test_a_gpu_is_given_its_rounding() -> None:
    near = [replace(each, loss=each.loss * 1.005) for each in STEPS]
    (news,) = told(RepeatedSteps(log_of(*STEPS[:5]), exact=False), *near[2:])
    assert news.level == "info"
    far = replace(STEPS[2], loss=STEPS[2].loss * 1.05)
    (news,) = told(RepeatedSteps(log_of(*STEPS[:5]), exact=False), far)
    assert news.level == "warn"


def test_the_latest_attempt_is_what_counts() -> None:
    repeated = RepeatedSteps(log_of(replace(STEPS[2], loss=9.0), *STEPS[:5]), exact=True)
    assert told(repeated, *STEPS[2:5])[0].level == "info"


def test_of_the_log_only_what_may_be_done_again_is_kept() -> None:
    saved = [ResumeSaved(step=step, bytes=1, seconds=0.1) for step in (2, 4)]
    log = log_of(*STEPS[:2], saved[0], *STEPS[2:4], saved[1], *STEPS[4:6])
    assert told(RepeatedSteps(log, exact=True), replace(STEPS[1], loss=9.0)) == [], "before both states that are kept"
    (news,) = told(RepeatedSteps(log, exact=True), *STEPS[2:])  # from the older one, where the newest is torn
    assert news.message.startswith("Steps 3 to 6 were")
