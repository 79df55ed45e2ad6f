"""The shared floor: one thread computes, each run's end, error and slow writes are its own."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.training.loop import Trainer
from luthier.training.turns import OwnTurn
from luthier.worker import floor as module
from luthier.worker.floor import Seat, SharedFloor
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


@pytest.fixture
def floor() -> Iterator[SharedFloor]:
    floor = SharedFloor()
    thread = threading.Thread(target=floor.work, daemon=True)
    thread.start()
    yield floor
    floor.close()
    thread.join(10)
    assert not thread.is_alive()


def seat(floor: SharedFloor, name: str) -> Seat:
    return Seat(floor, name=name, project="p", weight=1.0, company=lambda: 0)


def in_threads(*acts: Callable[[], Any]) -> list[Any]:
    """What each returned or raised."""
    ends: list[Any] = [None] * len(acts)

    def run(at: int) -> None:
        try:
            ends[at] = acts[at]()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            ends[at] = error

    threads = [threading.Thread(target=run, args=(at,), daemon=True) for at in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return ends


def test_all_turns_are_taken_by_one_thread_and_no_two_at_once(floor: SharedFloor) -> None:
    seen: list[tuple[str, int]] = []
    inside, all_here = threading.Lock(), threading.Barrier(3)

    def turns(name: str) -> Any:
        yield lambda: all_here.wait(60)
        for _ in range(20):
            assert inside.acquire(blocking=False), "two computed at once"
            seen.append((name, threading.get_ident()))
            inside.release()
            yield None
        return name

    held = threading.Event()

    def hold() -> None:
        """Until all three wait for their first turn."""
        held.set()
        while len(floor._ready) < 3:
            time.sleep(0.001)

    holder = threading.Thread(target=floor.call, args=("holder", hold), daemon=True)
    holder.start()
    assert held.wait(60)
    ends = in_threads(*(lambda n=n: floor.run(n, turns(n), project=n, weight=1.0) for n in "abc"))
    holder.join(60)
    assert ends == ["a", "b", "c"]
    assert len({thread for _, thread in seen}) == 1
    assert threading.get_ident() not in {thread for _, thread in seen}
    assert [name for name, _ in seen] != sorted(name for name, _ in seen), "they took turns"


def test_an_error_ends_the_run_that_made_it_and_no_other(floor: SharedFloor) -> None:
    def broken() -> Any:
        yield None
        raise MemoryError("too much")

    def sound() -> Any:
        for _ in range(5):
            yield None
        return "done"

    def fails_beside() -> Any:
        def beside() -> None:
            raise OSError("no space left")

        yield beside

    acts = [lambda t=t, n=n: floor.run(n, t(), project="p", weight=1.0) for n, t in enumerate_named(broken, sound, fails_beside)]
    first, second, third = in_threads(*acts)
    assert isinstance(first, MemoryError)
    assert second == "done"
    assert isinstance(third, OSError)
    assert floor.call("x", lambda: 7) == 7


def enumerate_named(*turns: Callable[[], Any]) -> list[tuple[str, Callable[[], Any]]]:
    return [(f"run-{number}", one) for number, one in enumerate(turns)]


def test_a_slow_write_of_one_does_not_hold_up_another(floor: SharedFloor) -> None:
    """The one that writes is let go on only by the other's end."""
    other_is_done = threading.Event()
    threads: list[int] = []

    def writes() -> Any:
        def beside() -> None:
            threads.append(threading.get_ident())
            assert other_is_done.wait(60)

        yield beside
        yield None
        return "written"

    def computes() -> Any:
        for _ in range(10):
            yield None
        other_is_done.set()
        return "computed"

    ends = in_threads(
        lambda: floor.run("w", writes(), project="a", weight=1.0), lambda: floor.run("c", computes(), project="b", weight=1.0)
    )
    assert ends == ["written", "computed"]


def test_the_base_is_loaded_once_and_a_full_fine_tune_has_its_own(floor: SharedFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[TrainableModel] = []

    def load(folder: Path, *, device: str, dtype: torch.dtype, quantization: str | None) -> TrainableModel:
        loaded.append(TrainableModel())
        return loaded[-1]

    monkeypatch.setattr(module, "load_model", load)
    options: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
    one, two = (seat(floor, n).model(Path("/base"), own=False, **options) for n in "ab")
    own = seat(floor, "c").model(Path("/base"), own=True, **options)
    assert one is two
    assert own is not one
    assert len(loaded) == 2
    packed = [seat(floor, n).model(Path("/base"), own=False, quantization="nf4", **options) for n in "de"]
    assert packed[0] is packed[1] is not one
    assert len(loaded) == 3


def test_trainers_on_the_floor_end_as_alone_and_their_adapters_are_given_back(
    floor: SharedFloor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", lambda folder, **options: TrainableModel())
    rows = {"a": prepared(), "b": prepared(17, seed=8)}

    def train(name: str) -> Any:
        place, hooks = seat(floor, name), Recorder()
        model = place.model(Path("/base"), device="cpu", dtype=torch.float32, own=False)
        trainer = Trainer(model, spec_for(rows[name]), rows[name], None, hooks, tmp_path / name, adapter=name)
        result = place.train(trainer, name)
        weights = [p.detach().clone() for p in model.adapter_parameters(name)]
        assert place.stretch() == 1.0
        assert place.seconds > 0
        place.leave()
        return result, hooks, weights, model

    ends = in_threads(lambda: train("a"), lambda: train("b"))
    for name, (result, hooks, weights, model) in zip("ab", ends, strict=True):
        alone, reference = TrainableModel(), Recorder()
        assert Trainer(alone, spec_for(rows[name]), rows[name], None, reference, tmp_path / f"{name}-alone").run() == result
        assert hooks.numbers() == reference.numbers()
        assert all(torch.equal(x, y) for x, y in zip(weights, alone.adapter_parameters("tuned"), strict=True))
        assert name not in model.adapters


def test_each_turn_finds_its_own_threads_mode_and_compilation() -> None:
    model = TrainableModel()
    before = torch.get_num_threads()
    try:
        one, two = (OwnTurn(model, num_threads=n, compiled=c) for n, c in ((1, True), (2, False)))
        for turn, threads, compiled in ((one, 1, True), (two, 2, False), (one, 1, True)):
            model.module.eval()
            with turn():
                assert (torch.get_num_threads(), model.compiled, model.module.training) == (threads, compiled, True)
        assert one.seconds > 0
    finally:
        torch.set_num_threads(before)


def test_what_is_offered_waits_a_moment_for_a_run_that_has_just_left(floor: SharedFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AWAY_SECONDS", 30.0)
    joined: list[int] = []
    monkeypatch.setattr(module, "answer_together", lambda offers: joined.append(len(offers)))

    class Offer(module.OfferedAnswers):
        def __init__(self) -> None:
            self.seconds = 0.0

    both = threading.Barrier(2)

    def turns(wait: float) -> Any:
        yield lambda: both.wait(60)
        if wait:
            yield lambda: time.sleep(wait)
        yield Offer()

    ends = in_threads(*(lambda n=n, s=s: floor.run(n, turns(s), project="p", weight=1.0) for n, s in (("a", 0.0), ("b", 0.3))))
    assert ends == [None, None]
    assert [count for count in joined if count] == [2]


def test_what_is_offered_does_not_wait_for_a_long_absence(floor: SharedFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "answer_together", lambda _offers: None)
    gone, done = threading.Event(), threading.Event()

    def turns_of_one_that_is_away() -> Any:
        gone.set()
        yield lambda: done.wait(60)

    class Offer(module.OfferedAnswers):
        def __init__(self) -> None:
            self.seconds = 0.0

    def turns() -> Any:
        yield lambda: gone.wait(60)
        yield Offer()

    def offering() -> None:
        floor.run("offers", turns(), project="p", weight=1.0)
        done.set()

    ends = in_threads(offering, lambda: floor.run("away", turns_of_one_that_is_away(), project="p", weight=1.0))
    assert ends == [None, None]
