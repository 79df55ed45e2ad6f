"""The view: a golden log gives a golden view, and later attempts win."""

import json

import pytest

from luthier.core.stage import Stage
from luthier.trace.events import RunStarted, StageStarted
from luthier.trace.observations import PREFERENCE_RULES, RULES, rule_for
from luthier.trace.reader import read_events
from luthier.trace.view import TraceView, view_of
from luthier.trace.writer import encode_event
from tests.support.trace_goldens import GOLDEN, logs
from tests.support.trace_logs import BASE, MODEL, epoch, events_of, step, whole_run


@pytest.mark.parametrize("name", logs())
def test_the_golden_log_is_what_the_writer_writes_today(name: str) -> None:
    assert (GOLDEN / f"{name}.jsonl").read_bytes() == b"".join(encode_event(e) for e in logs()[name])


@pytest.mark.parametrize("name", logs())
def test_the_golden_log_gives_the_golden_view(name: str) -> None:
    events, _ = read_events(GOLDEN / f"{name}.jsonl")
    found = json.loads(json.dumps(view_of(events).to_dict()))
    assert found == json.loads((GOLDEN / f"{name}.view.json").read_text(encoding="utf-8"))


def test_every_rule_speaks_in_a_golden_log() -> None:
    spoken = set()
    for name in logs():
        view = view_of(read_events(GOLDEN / f"{name}.jsonl")[0])
        rows, steps = view.ordered_epochs(), view.ordered_steps()
        spoken |= {rule_for(rows[: i + 1], base=view.base, steps=steps)[0].name for i in range(len(rows))}
    assert {rule.name for rule in (*RULES, *PREFERENCE_RULES)} <= spoken


def test_the_later_attempt_wins_and_each_step_stands_once() -> None:
    view = view_of(whole_run())
    assert [(s.step, s.loss) for s in view.ordered_steps()] == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 1.0)]
    assert view.resumed_from == [2]


def test_events_taken_twice_change_nothing() -> None:
    events = whole_run()
    view = view_of(events)
    expected = view.to_dict()
    for event in events:
        view.apply(event)
    assert view.to_dict() == expected


def test_any_split_into_pages_gives_the_same_view() -> None:
    events = whole_run()
    for cut in range(len(events)):
        view = view_of(events[:cut])
        for event in events[cut:]:
            view.apply(event)
        assert view.to_dict() == view_of(events).to_dict()


def test_an_empty_view_invents_nothing() -> None:
    plain = TraceView().to_dict()
    assert [s["status"] for s in plain["stages"]] == ["waiting"] * 5
    assert all(not value for key, value in plain.items() if key != "stages")


def test_a_stage_runs_until_it_reports() -> None:
    view = view_of(events_of([(Stage.PREPROCESSING, StageStarted(shape_in="9 examples"))]))
    assert view.stages[Stage.PREPROCESSING].status == "running"
    assert view.stages[Stage.PREPROCESSING].shape_in == "9 examples"
    assert view_of(whole_run()).stages[Stage.PREPROCESSING].status == "done"


def test_a_new_attempt_takes_back_the_end() -> None:
    events = whole_run()
    again = events_of([(Stage.TRAINING, RunStarted(model=MODEL, base=BASE, attempt=3, resumed_from_step=3))], first_id=len(events) + 1)
    assert view_of(events).finished is not None
    assert view_of([*events, *again]).finished is None


def test_observations_look_at_the_epochs_so_far_only() -> None:
    payloads = [(Stage.TRAINING, epoch(i, 1 / i, 1.0 + i, n=3)) for i in (1, 2, 3)]
    whole = view_of(events_of(payloads)).observations()
    assert set(whole) == {1, 2, 3}
    assert whole[2] == view_of(events_of(payloads[:2])).observations()[2]


def test_the_first_step_keeps_its_time() -> None:
    view = view_of(events_of([(Stage.TRAINING, step(1)), (Stage.TRAINING, step(2))]))
    assert view.first_step_at == 1_700_000_001.0
