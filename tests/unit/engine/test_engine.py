import threading

import pytest
import torch

from luthier.core.engine_messages import Failed, Started
from luthier.core.errors import TooManyRequests
from luthier.core.generation import FinishReason, SamplingParams
from luthier.engine import naive
from luthier.engine.engine import BROKEN, DIVERGED, STOPPING
from luthier.engine.runner import MAX_CACHE_BYTES, MAX_SLOTS, slots_for
from luthier.engine.scheduler import Scheduler
from luthier.engine.sequence import Lane
from tests.support.engine_sequences import Recorded, new_engine, run_to_end
from tests.support.fake_model import FakeModel

WAIT_SECONDS = 60


def test_many_sequences_on_two_models_and_adapters_get_their_own_answers() -> None:
    models = {"m": FakeModel(seed=1), "n": FakeModel(seed=2)}
    engine = new_engine()
    for key, model in models.items():
        model.add_adapter("x", rank=1, alpha=1, seed=3)
        engine.attach(key, model, max_length=64)
    asked: list[Recorded] = []
    for index in range(80):
        lane = Lane("mn"[index % 2], "x" if index % 3 == 0 else None)
        asked.append(Recorded((index % 50, index * 7 % 50), lane=lane, max_new_tokens=1 + index % 9))
        engine.add(asked[-1].sequence)
        if index % 5 == 0:
            engine.step()
    run_to_end(engine)
    for recorded in asked:
        sequence = recorded.sequence
        expected = naive.generate(
            models[sequence.lane.model], sequence.prompt_ids, max_new_tokens=sequence.max_new_tokens, adapter=sequence.lane.adapter
        )
        assert recorded.ids == expected
        assert recorded.replies[0] == Started(prompt_tokens=2)
        assert recorded.finished.completion_tokens == len(expected)
    assert max(models["m"].decoded_batches) > 4


def test_stop_ids_end_the_answer_where_the_plain_way_ends_it() -> None:
    model = FakeModel()
    engine = new_engine()
    engine.attach("m", model, max_length=64)
    expected = naive.generate(model, (1, 2, 3), max_new_tokens=20)
    stop = expected[6]
    first = expected.index(stop)
    recorded = Recorded(max_new_tokens=20, stop_ids=frozenset({stop}))
    engine.add(recorded.sequence)
    run_to_end(engine)
    assert recorded.ids == expected[:first]
    assert recorded.finished.finish_reason is FinishReason.STOP
    assert recorded.finished.completion_tokens == first + 1


def test_seeded_sampling_does_not_depend_on_the_company() -> None:
    model = FakeModel()

    def answer(company: int) -> list[int]:
        engine = new_engine()
        engine.attach("m", model, max_length=64)
        for index in range(company):
            engine.add(Recorded((index,), sampling=SamplingParams()).sequence)
        recorded = Recorded(sampling=SamplingParams(seed=42, temperature=1.5, top_p=0.9), max_new_tokens=15)
        engine.add(recorded.sequence)
        run_to_end(engine)
        return recorded.ids

    assert answer(0) == answer(9)


def test_an_aborted_sequence_gives_its_slot_to_the_next() -> None:
    model = FakeModel(max_length=64)
    engine = new_engine()
    engine.attach("m", model, max_length=64)
    running = [Recorded(max_new_tokens=50) for _ in range(MAX_SLOTS)]
    waiting = Recorded(max_new_tokens=2)
    for recorded in (*running, waiting):
        engine.add(recorded.sequence)
    for _ in range(3):
        engine.step()
    assert waiting.replies == []
    engine.abort(running[5].sequence)
    engine.abort(running[5].sequence)
    assert running[5].finished.finish_reason is FinishReason.ABORTED
    engine.step()
    engine.step()
    assert waiting.finished.completion_tokens == 2
    assert not running[6].sequence.finished


def test_a_waiting_sequence_can_be_aborted() -> None:
    engine = new_engine()
    engine.attach("m", FakeModel(), max_length=64)
    recorded = Recorded()
    engine.add(recorded.sequence)
    engine.abort(recorded.sequence)
    assert engine.num_active == 0
    assert recorded.finished.completion_tokens == 0


def test_no_tokens_wanted_ends_at_once() -> None:
    engine = new_engine()
    engine.attach("m", FakeModel(), max_length=64)
    recorded = Recorded(max_new_tokens=0)
    engine.add(recorded.sequence)
    assert recorded.replies[0] == Started(prompt_tokens=3)
    assert recorded.finished.finish_reason is FinishReason.LENGTH


def test_a_broken_batch_ends_its_own_sequences_without_details() -> None:
    good, bad = FakeModel(seed=1), FakeModel(seed=2)
    engine = new_engine()
    engine.attach("good", good, max_length=64)
    engine.attach("bad", bad, max_length=64)
    spared, lost = Recorded(lane=Lane("good")), Recorded(lane=Lane("bad"))
    engine.add(spared.sequence)
    engine.add(lost.sequence)
    engine.step()
    bad.break_next_decode = True
    engine.step()
    assert lost.end == BROKEN
    again = Recorded(lane=Lane("bad"))
    engine.add(again.sequence)
    run_to_end(engine)
    assert spared.finished.completion_tokens == 8
    assert again.ids == naive.generate(bad, (1, 2, 3), max_new_tokens=8)
    assert all(not cache.states for cache in bad.caches)


def test_a_diverged_model_is_said_to_be_one() -> None:
    model = FakeModel()
    model.table = torch.full_like(model.table, float("nan"))
    engine = new_engine()
    engine.attach("m", model, max_length=64)
    recorded = Recorded()
    engine.add(recorded.sequence)
    run_to_end(engine)
    assert recorded.end == DIVERGED


def test_a_full_line_is_refused_and_leaves_no_trace() -> None:
    engine = new_engine(Scheduler(max_waiting=1))
    engine.attach("m", FakeModel(), max_length=64)
    engine.add(Recorded().sequence)
    refused = Recorded()
    with pytest.raises(TooManyRequests):
        engine.add(refused.sequence)
    assert refused.replies == []


def test_background_work_and_generation_take_turns() -> None:
    engine = new_engine()
    engine.attach("m", FakeModel(), max_length=64)
    recorded = Recorded(max_new_tokens=10)
    seen: list[int] = []
    done = threading.Event()

    def work():
        for _ in range(6):
            seen.append(recorded.sequence.num_generated)
            yield
        done.set()

    def begin() -> None:
        engine.add(recorded.sequence)
        engine.add_background(work())

    engine.call(begin)
    engine.start()
    assert done.wait(WAIT_SECONDS)
    engine.stop(WAIT_SECONDS)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_the_thread_outlives_faulty_work_and_fails_what_is_left_at_its_stop() -> None:
    engine = new_engine()
    engine.attach("m", FakeModel(max_length=10**9), max_length=10**9)
    endless = Recorded(max_new_tokens=10**9)
    running = threading.Event()

    def faulty() -> None:
        raise RuntimeError("a fault")

    def broken_work():
        raise RuntimeError("another fault")
        yield

    engine.start()
    engine.call(faulty)
    engine.call(lambda: engine.add_background(broken_work()))
    engine.call(lambda: engine.add(endless.sequence))
    engine.call(running.set)
    assert running.wait(WAIT_SECONDS)
    engine.stop(WAIT_SECONDS)
    assert endless.end == STOPPING
    assert isinstance(endless.end, Failed)
    assert engine.num_active == 0


def test_a_model_gets_as_many_slots_as_its_cache_may_weigh() -> None:
    assert slots_for(FakeModel(), 64) == MAX_SLOTS
    wide = FakeModel(hidden_size=4096)
    per_slot = 2 * 4096 * 4
    assert slots_for(wide, MAX_CACHE_BYTES // per_slot // 3) == 3
    assert slots_for(wide, MAX_CACHE_BYTES) == 1
