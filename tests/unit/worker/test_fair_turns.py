"""Whose turn it is: projects get the same time, runs within one by their weights, and nobody is made to wait for what he missed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.worker.fair_share import HALF_LIFE_SECONDS, RecentUse
from luthier.worker.fair_turns import FairTurns


def simulate(fair: FairTurns, costs: dict[str, float], turns: int) -> dict[str, float]:
    """Seconds that each run gets when all of them always wait."""
    spent = dict.fromkeys(costs, 0.0)
    for _ in range(turns):
        name = fair.next(costs)
        fair.spend(name, costs[name])
        spent[name] += costs[name]
    return spent


def test_projects_share_alike_however_many_runs_they_have() -> None:
    fair = FairTurns()
    for name in ("a1", "a2", "a3"):
        fair.join(name, project="a", weight=1.0)
    fair.join("b1", project="b", weight=1.0)
    spent = simulate(fair, {"a1": 0.01, "a2": 0.03, "a3": 0.02, "b1": 0.05}, 2000)
    assert spent["a1"] + spent["a2"] + spent["a3"] == pytest.approx(spent["b1"], rel=0.02)
    assert spent["a1"] == pytest.approx(spent["a2"], rel=0.05), "time counts, not turns"
    assert [fair.share(n) for n in ("a1", "b1", "unknown")] == [pytest.approx(1 / 6), pytest.approx(0.5), 1.0]


def test_a_priority_doubles_the_share_within_its_own_project() -> None:
    fair = FairTurns()
    fair.join("low", project="a", weight=1.0)
    fair.join("high", project="a", weight=2.0)
    fair.join("other", project="b", weight=1.0)
    spent = simulate(fair, {"low": 0.01, "high": 0.01, "other": 0.01}, 6000)
    assert spent["high"] == pytest.approx(2 * spent["low"], rel=0.02)
    assert spent["other"] == pytest.approx(spent["low"] + spent["high"], rel=0.02)


def test_who_comes_late_starts_level_and_does_not_take_over() -> None:
    fair = FairTurns()
    fair.join("old", project="a", weight=1.0)
    simulate(fair, {"old": 1.0}, 50)
    fair.join("new", project="a", weight=1.0)
    fair.join("newer", project="b", weight=1.0)
    spent = simulate(fair, {"old": 1.0, "new": 1.0, "newer": 1.0}, 8)
    assert spent == {"newer": 4.0, "old": 2.0, "new": 2.0}


def test_who_was_away_is_level_with_those_who_wait() -> None:
    fair = FairTurns()
    for name, project in (("one", "a"), ("two", "a"), ("far", "b")):
        fair.join(name, project=project, weight=1.0)
    simulate(fair, {"one": 1.0, "two": 1.0}, 20)  # the other project writes a checkpoint meanwhile
    fair.come_back("far", ["one", "two"])
    assert simulate(fair, {"one": 1.0, "two": 1.0, "far": 1.0}, 8)["far"] == pytest.approx(4.0, abs=1.0)
    simulate(fair, {"one": 1.0}, 20)
    fair.come_back("two", ["one"])
    assert simulate(fair, {"one": 1.0, "two": 1.0}, 8)["two"] == pytest.approx(4.0, abs=1.0)


def test_a_project_that_left_and_came_again_has_no_debt() -> None:
    fair = FairTurns()
    fair.join("a", project="a", weight=1.0)
    simulate(fair, {"a": 1.0}, 9)
    fair.leave("a")
    fair.leave("a")
    assert "a" not in fair
    fair.join("b", project="b", weight=1.0)
    fair.join("a", project="a", weight=1.0)
    assert simulate(fair, {"a": 1.0, "b": 1.0}, 10) == {"a": 5.0, "b": 5.0}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.001, 1.0)), min_size=2, max_size=8))
def test_nobody_starves(runs: list[tuple[str, float]]) -> None:
    fair = FairTurns()
    costs = {f"{project}{number}": cost for number, (project, cost) in enumerate(runs)}
    for name in costs:
        fair.join(name, project=name[0], weight=1.0)
    spent = simulate(fair, costs, 3000)
    by_project = {project: sum(v for n, v in spent.items() if n[0] == project) for project in {n[0] for n in costs}}
    assert max(by_project.values()) - min(by_project.values()) <= max(costs.values()) * 2
    assert set(spent) == set(costs)


def test_recent_use_fades() -> None:
    use = RecentUse()
    use.add("a", 100.0, 0.0)
    use.add("b", 60.0, HALF_LIFE_SECONDS)
    assert use.of("a", HALF_LIFE_SECONDS) == pytest.approx(50.0)
    assert use.of("b", HALF_LIFE_SECONDS) > use.of("a", HALF_LIFE_SECONDS)
    assert use.of("unknown", 1.0) == 0.0
    use.add("b", 1.0, 100 * HALF_LIFE_SECONDS)
    assert use.of("a", 100 * HALF_LIFE_SECONDS) == 0.0
