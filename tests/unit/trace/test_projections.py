"""OpenAI's wording and keys, to the letter (reference, sections 2.3, 2.5, 2.7)."""

from dataclasses import replace

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import EpochDone, ForecastChecked, Notice, Payload, RangeTested, RunFinished, RunStarted, SpecResolved, StepDone
from luthier.trace.projections import HELD_SECONDS, JobEventProjection, metrics_csv
from tests.support.trace_logs import BASE, FINAL, MODEL, SPEC, epoch, events_of, measured, step, whole_run


def project(*payloads: Payload) -> list[tuple[str, str]]:
    projection = JobEventProjection()
    found = [e for event in events_of([(Stage.TRAINING, p) for p in payloads]) for e in projection.push(event)]
    return [(e.level, e.message) for e in found]


def messages(*payloads: Payload) -> list[str]:
    return [message for _, message in project(*payloads)]


def test_a_whole_run() -> None:
    projection = JobEventProjection()
    found = [e.message for event in whole_run() for e in projection.push(event)]
    assert found == [
        "Fine-tuning job started",
        f"The open model {BASE} is being trained (asked for as {MODEL})",
        "Forecast by formula: 4 steps, 800 tokens, about 34 s (20 to 65), 0.50 GB of memory",
        "Decided batch_size = 8: 16 examples are few.",
        "Step 1/4: training loss=3.00",
        "Step 2/4: training loss=2.00, validation loss=1.50, full validation loss=1.25",
        f"Checkpoint created at step 2 with Snapshot ID: {FINAL}:ckpt-step-2",
        "Step 3/4: training loss=1.75",
        "Fine-tuning job resumed after step 2",
        "Step 3/4: training loss=1.50",
        "Step 4/4: training loss=1.00, validation loss=1.00, full validation loss=1.00",
        "a plain sentence",
        f"New fine-tuned model created: {FINAL}",
        "The job has successfully completed",
    ]


def test_metrics_data_has_the_reference_keys() -> None:
    projection = JobEventProjection()
    events = [e for event in whole_run() for e in projection.push(event) if e.type == "metrics"]
    assert events[0].data == {"step": 1, "total_steps": 4, "train_loss": 3.0, "train_mean_token_accuracy": 0.5}
    assert events[1].data == {
        "step": 2,
        "total_steps": 4,
        "train_loss": 2.0,
        "train_mean_token_accuracy": 0.5,
        "valid_loss": 1.5,
        "valid_mean_token_accuracy": 0.625,
        "full_valid_loss": 1.25,
        "full_valid_mean_token_accuracy": 0.8,
    }
    assert all(e.level == "info" for e in events)
    assert events[0].created_at == 1_700_000_011


def test_what_openai_has_no_key_for_stands_under_ours_and_only_what_was_measured() -> None:
    (known,) = JobEventProjection().push(events_of([(Stage.TRAINING, measured(step(1)))])[0])
    assert known.data is not None
    assert known.data["luthier"] == {
        "learning_rate": 1e-3,
        "grad_norm": 0.7,
        "tokens": 120,
        "tokens_per_second": 2400.0,
        "padding_share": 0.25,
        "memory_bytes": 400_000_000,
        "flops_utilization": 0.5,
        "seconds": 0.05,
    }
    (unknown,) = JobEventProjection().push(events_of([(Stage.TRAINING, measured(step(1), share_used=None))])[0])
    assert unknown.data is not None
    assert "flops_utilization" not in unknown.data["luthier"]


def test_a_held_step_goes_after_its_time_and_is_told_again_whole() -> None:
    projection = JobEventProjection()
    (event, ended) = events_of([(Stage.TRAINING, step(4)), (Stage.TRAINING, epoch(2, 1.0, 0.25))])
    assert projection.push(event) == ()
    assert projection.held_until == event.time + HELD_SECONDS
    assert projection.overdue(event.time + HELD_SECONDS / 2) == ()
    (alone,) = projection.overdue(event.time + HELD_SECONDS)
    assert (alone.message, projection.held_until) == ("Step 4/4: training loss=1.00", None)
    assert projection.overdue(event.time + 9) == ()
    (whole,) = projection.push(ended)
    assert whole.message == "Step 4/4: training loss=1.00, full validation loss=0.25"


def test_a_step_that_went_is_not_told_again_where_nothing_was_validated() -> None:
    projection = JobEventProjection()
    (event, ended) = events_of([(Stage.TRAINING, step(4)), (Stage.TRAINING, epoch(2, 1.0, None))])
    projection.push(event)
    assert len(projection.overdue(event.time + 9)) == 1
    assert projection.push(ended) == ()


def test_an_epochs_last_step_waits_for_the_epoch() -> None:
    held = [SPEC, step(1), step(2)]
    assert messages(*held)[1:] == ["Step 1/4: training loss=1.00"]
    assert messages(*held, epoch(1, 1.0, None))[2:] == ["Step 2/4: training loss=1.00"]


def test_a_held_step_is_never_lost() -> None:
    assert messages(SPEC, step(2), step(3))[1:] == ["Step 2/4: training loss=1.00", "Step 3/4: training loss=1.00"]


@pytest.mark.parametrize("last", [step(4), step(4, valid=0.5)])
def test_the_last_step_of_all_is_known_without_a_spec(last: StepDone) -> None:
    (message,) = messages(last, epoch(2, 1.0, 0.25))
    assert message.startswith("Step 4/4: training loss=1.00")
    assert message.endswith(", full validation loss=0.25")


def test_without_a_spec_the_first_epoch_end_teaches_where_epochs_end() -> None:
    told = messages(
        step(1, total=6), step(2, total=6), epoch(1, 1.0, 0.5, n=3), step(3, total=6), step(4, total=6), epoch(2, 1.0, 0.25, n=3)
    )
    assert told == [
        "Step 1/6: training loss=1.00",
        "Step 2/6: training loss=1.00",
        "Step 3/6: training loss=1.00",
        "Step 4/6: training loss=1.00, full validation loss=0.25",
    ]


def test_each_step_is_told_once() -> None:
    payloads: list[Payload] = [SPEC]
    for number in range(1, 5):
        payloads.append(step(number, epoch=(number + 1) // 2))
        if number % 2 == 0:
            payloads.append(epoch(number // 2, 1.0, 0.5))
    told = [m.split(":")[0] for m in messages(*payloads) if m.startswith("Step")]
    assert told == ["Step 1/4", "Step 2/4", "Step 3/4", "Step 4/4"]


def test_a_resumed_attempt_does_not_tell_its_decisions_again() -> None:
    started = RunStarted(model=MODEL, base=BASE, attempt=2, resumed_from_step=3)
    assert messages(started, SPEC) == ["Fine-tuning job resumed after step 3"]


def test_an_open_model_under_its_own_name() -> None:
    started = RunStarted(model=BASE, base=BASE, attempt=1, resumed_from_step=0)
    assert messages(started) == ["Fine-tuning job started", f"The open model {BASE} is being trained"]


def test_decided_numbers_have_sane_digits() -> None:
    decisions = tuple({"name": n, "value": v, "reason": "why"} for n, v in (("a", 3), ("b", 0.00051234567), ("c", 10000.0)))
    spec = SpecResolved(spec={}, decisions=decisions, trainable_parameters=1, total_parameters=2)
    assert messages(spec) == ["Decided a = 3: why", "Decided b = 0.0005123: why", "Decided c = 10,000: why"]


def test_notices_keep_their_level_and_ends_without_success_are_silent() -> None:
    assert project(Notice(level="warn", message="careful")) == [("warn", "careful")]
    assert messages(RunFinished(status="failed", error={"message": "x"}), RunFinished(status="cancelled")) == []


def test_metrics_csv() -> None:
    steps = [step(1, 1.523468, accuracy=0.0), step(2, 1.25, valid=0.5), step(3, 9.0), step(3, 1 / 3, accuracy=2 / 3)]
    assert metrics_csv(steps) == (
        "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.52347,0.0,,\n2,1.25,0.5,0.5,0.625\n3,0.33333,0.66667,,\n"
    )


def test_metrics_csv_is_in_step_order() -> None:
    lines = metrics_csv([step(2), step(10), step(1)]).splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "10"]


def test_epoch_rows_without_validation_add_nothing() -> None:
    quiet: EpochDone = epoch(1, 1.0, None)
    assert messages(SPEC, step(2), quiet)[1:] == ["Step 2/4: training loss=1.00"]


def test_forecast_and_actual_stand_side_by_side() -> None:
    checked = ForecastChecked(
        basis="first_steps",
        forecast_seconds=(20.0, 34.0, 65.0),
        seconds=40.4,
        forecast_bytes=(4e8, 5e8, 6e8),
        peak_bytes=510_000_000,
        forecast_tokens=800,
        tokens=800,
    )
    assert messages(checked) == ["Forecast by the first steps and actual: 34 s and 40 s, 0.50 GB and 0.51 GB, 800 and 800 tokens"]


def test_a_range_test_is_told_in_one_sentence() -> None:
    told = RangeTested(
        steps=60,
        base_rate=2.25e-4,
        learning_rate=3.16e-4,
        lowest_rate=1e-3,
        rates=(1e-4, 1e-3, 1e-2),
        losses=(3.0, 2.0, 9.0),
        changes=(-0.1, -1.5, 4.0),
        curve=(-0.2, -1.25, 3.0),
        seconds=2.61,
    )
    expected = "Range test of the learning rate: 3 of 60 steps in 2.6 s, from 0.0001 to 0.01"
    assert messages(told) == [f"{expected}: loss lowest at 0.001 (-1.25 to the start); 0.000316 is taken"]
    assert messages(replace(told, lowest_rate=None)) == [f"{expected}; the automatic rate 0.000225 stays"]
    nothing = replace(told, lowest_rate=None, rates=(), losses=(), changes=(), curve=())
    assert messages(nothing) == ["Range test of the learning rate: 0 of 60 steps in 2.6 s; the automatic rate 0.000225 stays"]
