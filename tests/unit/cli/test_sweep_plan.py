"""The grid of a sweep: its points, its id, the requests of its jobs."""

from pathlib import Path

import click
import pytest

from luthier.cli.sweep_plan import ListOf, Plan, Point, grid, identity, is_sweep_id, new_sweep_id, sweep_id

FILES = {"training_file": "file-a", "validation_file": "file-b"}


def test_a_grid_is_every_combination_in_order() -> None:
    points = grid({"epochs": (1, 3), "rank": (8, 16), "seed": (0,)})
    assert [p.name for p in points] == [
        "epochs=1 rank=8 seed=0",
        "epochs=1 rank=16 seed=0",
        "epochs=3 rank=8 seed=0",
        "epochs=3 rank=16 seed=0",
    ]


def test_a_request_holds_what_its_point_says() -> None:
    points = grid(
        {"epochs": (3,), "learning-rate-multiplier": (0.5,), "batch-size": ("auto",), "rank": (8,), "alpha": (16.0,), "seed": (7,)}
    )
    plan = Plan(id="sweep-0123456789ab", points=points, shared={"model": "m", "suffix": "s"}, metadata={"team": "a"}, priority=-1)
    assert plan.request(points[0], FILES) == {
        "model": "m",
        "suffix": "s",
        **FILES,
        "seed": 7,
        "metadata": {
            "team": "a",
            "made_by": "luthier sweep",
            "sweep": "sweep-0123456789ab",
            "sweep_point": "epochs=3 learning-rate-multiplier=0.5 batch-size=auto rank=8 alpha=16 seed=7",
            "sweep_size": "1",
        },
        "method": {
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
        },
        "luthier": {"rank": 8, "alpha": 16.0, "priority": -1},
    }


def test_what_was_not_asked_for_is_left_to_the_server() -> None:
    (point,) = grid({"seed": (0,)})
    body = Plan(id=new_sweep_id(), points=(point,), shared={"model": "m"}, metadata={}).request(point, FILES)
    assert set(body) == {"model", "training_file", "validation_file", "seed", "metadata"}


def test_an_id_stands_for_all_that_decides_the_jobs() -> None:
    points, shared = grid({"epochs": (1, 3), "seed": (0,)}), {"model": "m"}
    own = sweep_id(["a", "b"], points, shared)
    assert is_sweep_id(own)
    assert own == sweep_id(["a", "b"], points[::-1], shared), "the order in which values are written changes nothing"
    others = {
        sweep_id(["a", "c"], points, shared),
        sweep_id(["b", "a"], points, shared),
        sweep_id(["a", "b"], points[:1], shared),
        sweep_id(["a", "b"], points, {"model": "n"}),
        new_sweep_id(),
    }
    assert len(others | {own}) == 6


def test_a_local_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one.write_bytes(b"same")
    other.write_bytes(b"same")
    assert identity(one) == identity(other) != identity("file-a") == "file-a"
    other.write_bytes(b"else")
    assert identity(one) != identity(other)


@pytest.mark.parametrize(("text", "values"), [("1", (1,)), ("1,3, 10", (1, 3, 10))])
def test_lists_of_values(text: str, values: tuple[int, ...]) -> None:
    assert ListOf(click.IntRange(1)).convert(text, None, None) == values


@pytest.mark.parametrize("text", ["", "1,", "1,1", "0", "a", "1;2"])
def test_what_is_no_list_of_values(text: str) -> None:
    with pytest.raises(click.BadParameter):
        ListOf(click.IntRange(1)).convert(text, None, None)


def test_numbers_are_named_shortly() -> None:
    assert Point(values=(("learning-rate-multiplier", 0.3), ("alpha", 16.0), ("epochs", "auto"))).name == (
        "learning-rate-multiplier=0.3 alpha=16 epochs=auto"
    )
