"""What an epoch of a preference run is said to mean, and how its numbers reach OpenAI's events and result file."""

import csv
import io
from dataclasses import replace

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import BaseMeasured, EpochDone, ReferenceScored
from luthier.trace.observations import observe, rule_for
from luthier.trace.projections import CSV_COLUMNS, JobEventProjection, metrics_csv, step_event
from luthier.trace.view import view_of
from tests.support.trace_logs import epoch, events_of, step


def means(margin: float = 0.5, *, prefers: float = 0.87, likely: float = -20.0, accuracy: float = 0.9) -> dict[str, float]:
    return {
        "reward_chosen": margin / 2,
        "reward_rejected": -margin / 2,
        "reward_margin": margin,
        "reward_accuracy": accuracy,
        "logp_chosen": likely,
        "logp_rejected": likely - 5.0,
        "prefers": prefers,
    }


BASE = BaseMeasured(loss=0.69, accuracy=0.5, held_out=True, preference=means(0.0, prefers=0.52, accuracy=0.5))


def row(number: int, held_out: dict[str, float] | None, trained: dict[str, float] | None = None) -> EpochDone:
    done = epoch(number, 0.5, None if held_out is None else 0.5)
    return replace(done, preference=trained or means(), valid_preference=held_out)


def test_it_says_how_many_held_out_pairs_are_preferred_rightly_now_and_before() -> None:
    said = observe([row(1, means())], base=BASE)
    assert said == "finds the preferred answer the likelier one in 87% of the held-out pairs, 52% before; reward margin 0.50, accuracy 90%"


def test_without_held_out_pairs_it_says_so() -> None:
    said = observe([row(1, None)], base=replace(BASE, held_out=False))
    assert "in 87% of the training pairs, 52% before" in said
    assert said.endswith("no held-out data, so nothing tells whether it generalises")


@pytest.mark.parametrize(("likely", "warned"), [(-20.5, False), (-22.1, True), (-19.0, False)])
def test_preferred_answers_that_become_less_likely_are_warned_of(likely: float, warned: bool) -> None:
    rule, _ = rule_for([row(1, means(likely=likely))], base=BASE)
    assert (rule.name == "chosen_falls") is warned
    if warned:
        assert "-20.0 -> -22.1" in observe([row(1, means(likely=likely))], base=BASE)


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([row(1, means(0.5), means(0.5)), row(2, means(0.4), means(0.9))], "margin_falls"),
        ([row(1, means(0.5), means(0.5)), row(2, means(0.49), means(0.9))], "prefers"),
        ([row(1, means(0.5), means(0.5)), row(2, means(0.4), means(0.4))], "prefers"),
        ([row(1, means(0.005))], "unmoved"),
        ([replace(row(1, means()), train_loss=float("nan"))], "not_finite"),
    ],
)
def test_the_first_rule_that_holds_speaks(rows: list[EpochDone], name: str) -> None:
    rule, facts = rule_for(rows, base=BASE)
    assert rule.name == name
    assert rule.says(facts)


def test_a_margin_without_a_reference_is_judged_by_how_far_it_has_come() -> None:
    """ORPO's rewards are no ratios: its margin may be below 0 all along."""
    start = replace(BASE, preference=means(-1.0))
    assert rule_for([row(1, means(-1.005))], base=start)[0].name == "unmoved"
    assert rule_for([row(1, means(0.005))], base=start)[0].name == "prefers"
    rows = [row(1, means(-0.5), means(-0.5)), row(2, means(-0.5), means(-0.2))]
    assert rule_for(rows, base=start)[0].name == "prefers"
    assert rule_for([rows[0], row(2, means(-0.6), means(-0.2))], base=start)[0].name == "margin_falls"


def test_it_speaks_where_nothing_was_measured_before_the_first_step() -> None:
    assert observe([row(1, means())], base=None).startswith("finds the preferred answer the likelier one in 87% of the held-out pairs;")


def test_steps_and_epochs_carry_the_rewards_into_the_public_event() -> None:
    last = replace(step(2, valid=0.4), preference=means(0.25), valid_preference=means(0.75))
    data = step_event(1, last, row(1, means(0.5))).data
    assert data is not None
    assert [data[f"{part}_reward_margin"] for part in ("train", "valid", "full_valid")] == [0.25, 0.75, 0.5]
    assert data["train_prefers"] == 0.87
    plain = step_event(1, step(1), None).data
    assert plain is not None
    assert not [name for name in plain if "reward" in name]


def test_the_result_file_has_reward_columns_only_where_there_are_rewards() -> None:
    steps = [replace(step(1), preference=means(0.123456)), replace(step(2, valid=0.4), preference=means(), valid_preference=means(0.75))]
    first, second = csv.DictReader(io.StringIO(metrics_csv(steps)))
    assert tuple(first)[: len(CSV_COLUMNS)] == CSV_COLUMNS
    assert (first["train_reward_margin"], first["valid_reward_margin"], second["valid_reward_margin"]) == ("0.12346", "", "0.75")
    assert metrics_csv([step(1)]).splitlines()[0] == ",".join(CSV_COLUMNS)


@pytest.mark.parametrize(
    ("done", "reused", "said"),
    [
        (10, False, "Reference log-probabilities: 10 of 1,200 pairs measured"),
        (1200, False, "Reference log-probabilities of 1,200 pairs measured in 3.5 s"),
        (1200, True, "Reference log-probabilities of 1,200 pairs read from an earlier attempt"),
    ],
)
def test_the_reference_tells_how_far_it_is(done: int, reused: bool, said: str) -> None:
    (event,) = events_of([(Stage.TRAINING, ReferenceScored(done=done, total=1200, seconds=3.5, reused=reused))])
    assert [public.message for public in JobEventProjection().push(event)] == [said]
    assert view_of([event]).reference == event.payload
