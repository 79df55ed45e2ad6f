import pytest

from luthier.core.errors import TooManyRequests
from luthier.engine.scheduler import Plan, Scheduler
from luthier.engine.sequence import Lane, Sequence
from tests.support.engine_sequences import Recorded


def _sequence(model: str = "a", adapter: str | None = None, prompt_length: int = 2) -> Sequence:
    return Recorded(tuple(range(prompt_length)), lane=Lane(model, adapter)).sequence


def _admitted(plan: Plan) -> list[Sequence]:
    return [p.sequence for p in plan.admitted]


def test_first_come_first_served_while_slots_are_free() -> None:
    scheduler = Scheduler()
    scheduler.add_model("a", 2)
    line = [_sequence() for _ in range(3)]
    for sequence in line:
        scheduler.enqueue(sequence)
    plan = scheduler.plan()
    assert _admitted(plan) == line[:2]
    assert [p.slot for p in plan.admitted] == [0, 1]
    assert _admitted(scheduler.plan()) == []
    assert scheduler.remove(line[0]) == 0
    plan = scheduler.plan()
    assert _admitted(plan) == [line[2]]
    assert plan.admitted[0].slot == 0


def test_admitted_sequences_decode_from_the_next_plan_on() -> None:
    scheduler = Scheduler()
    scheduler.add_model("a", 2)
    sequence = _sequence()
    scheduler.enqueue(sequence)
    assert scheduler.plan().groups == ()
    ((placed,),) = scheduler.plan().groups
    assert placed.sequence is sequence


def test_one_group_per_model_and_adapter() -> None:
    scheduler = Scheduler()
    scheduler.add_model("a", 4)
    scheduler.add_model("b", 4)
    lanes = [("a", None), ("a", "x"), ("b", None), ("a", "x")]
    for model, adapter in lanes:
        scheduler.enqueue(_sequence(model, adapter))
    scheduler.plan()
    groups = {group[0].sequence.lane: len(group) for group in scheduler.plan().groups}
    assert groups == {Lane("a"): 1, Lane("a", "x"): 2, Lane("b"): 1}


def test_a_full_model_holds_up_only_its_own_line() -> None:
    scheduler = Scheduler()
    scheduler.add_model("a", 1)
    scheduler.add_model("b", 1)
    first, second, other = _sequence("a"), _sequence("a"), _sequence("b")
    for sequence in (first, second, other):
        scheduler.enqueue(sequence)
    assert _admitted(scheduler.plan()) == [first, other]


def test_long_prompts_are_spread_over_steps_in_order() -> None:
    scheduler = Scheduler(max_prefill_tokens=100)
    scheduler.add_model("a", 8)
    long, middle, small = _sequence(prompt_length=500), _sequence(prompt_length=80), _sequence(prompt_length=10)
    for sequence in (long, middle, small):
        scheduler.enqueue(sequence)
    assert _admitted(scheduler.plan()) == [long]
    assert _admitted(scheduler.plan()) == [middle, small]


def test_a_small_prompt_does_not_overtake_a_long_one_of_the_same_model() -> None:
    scheduler = Scheduler(max_prefill_tokens=100)
    scheduler.add_model("a", 8)
    first, long, small = _sequence(prompt_length=60), _sequence(prompt_length=60), _sequence(prompt_length=5)
    for sequence in (first, long, small):
        scheduler.enqueue(sequence)
    assert _admitted(scheduler.plan()) == [first]
    assert _admitted(scheduler.plan()) == [long, small]


def test_the_line_has_an_end() -> None:
    scheduler = Scheduler(max_waiting=2)
    scheduler.add_model("a", 1)
    scheduler.enqueue(_sequence())
    scheduler.enqueue(_sequence())
    with pytest.raises(TooManyRequests):
        scheduler.enqueue(_sequence())
    assert scheduler.num_active == 2


def test_remove_takes_out_of_the_line_and_ignores_strangers() -> None:
    scheduler = Scheduler()
    scheduler.add_model("a", 1)
    first, second = _sequence(), _sequence()
    scheduler.enqueue(first)
    scheduler.enqueue(second)
    assert scheduler.remove(first) is None
    assert scheduler.remove(_sequence()) is None
    assert scheduler.sequences() == (second,)
