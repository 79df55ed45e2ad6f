import math

import pytest
import torch

from luthier.core.errors import Unavailable
from luthier.engine import naive
from luthier.engine.walk import Walk, measured, scored, walked
from tests.support.fake_model import FakeModel


def _walk(
    model: FakeModel, adapter: str | None = None, *, forced: tuple[int, ...] = (), max_tokens: int = 9, stop: tuple[int, ...] = ()
) -> Walk:
    return Walk(model=model, adapter=adapter, prompt_ids=(3, 4), forced=forced, max_tokens=max_tokens, stop_ids=stop)


@pytest.fixture
def model() -> FakeModel:
    made = FakeModel(seed=1)
    made.add_adapter("x", rank=1, alpha=1, seed=3)
    return made


def test_two_walks_go_on_together_and_each_is_greedy(model: FakeModel) -> None:
    walks = [_walk(model, "x"), _walk(model, max_tokens=4)]
    pieces = list(walked(walks))
    assert len(pieces) == 9, "a token of each per piece"
    for walk in walks:
        assert list(walk.ids) == naive.generate(model, walk.prompt_ids, max_new_tokens=walk.max_tokens, adapter=walk.adapter)
        assert all(step.rank == 1 and not step.forced and step.id == step.top[0][0] for step in walk.steps)
    assert walks[0].ids[:4] != walks[1].ids


def test_walks_of_one_model_share_each_call_and_its_size_stays_the_same(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    other, seen = FakeModel(seed=2), []
    decode_apart = FakeModel.decode_apart

    def noted(self: FakeModel, cache, slots, ids, adapters):  # type: ignore[no-untyped-def]
        seen.append((self is model, tuple(slots), tuple(adapters)))
        return decode_apart(self, cache, slots, ids, adapters)

    monkeypatch.setattr(FakeModel, "decode_apart", noted)
    walks = [_walk(model, "x", max_tokens=6), _walk(other, max_tokens=3), _walk(model, max_tokens=2)]
    list(walked(walks))
    assert [len(walk.steps) for walk in walks] == [6, 3, 2]
    # One read prompts; the walk that is done after two tokens is in the batch until the other is.
    assert [call for call in seen if call[0]] == [(True, (0, 1), ("x", None))] * 5
    assert [call for call in seen if not call[0]] == [(False, (0,), (None,))] * 2
    assert [len(made.caches) for made in (model, other)] == [1, 1]
    assert model.caches[0].states == {}
    for walk in walks:
        assert list(walk.ids) == naive.generate(walk.model, (3, 4), max_new_tokens=walk.max_tokens, adapter=walk.adapter)


def test_a_stop_token_ends_a_walk(model: FakeModel) -> None:
    whole = naive.generate(model, (3, 4), max_new_tokens=5)
    walk = _walk(model, stop=(whole[2],))
    list(walked([walk]))
    assert list(walk.ids) == whole[: whole.index(whole[2]) + 1]
    assert walk.ended


def test_a_side_branch_goes_on_from_the_forced_tokens(model: FakeModel) -> None:
    walk = _walk(model, forced=(10, 11), max_tokens=6)
    list(walked([walk]))
    assert walk.ids[:2] == (10, 11)
    assert [step.forced for step in walk.steps] == [True, True, False, False, False, False]
    assert list(walk.ids[2:]) == naive.generate(model, (3, 4, 10, 11), max_new_tokens=4)


def test_the_figures_of_a_place_are_those_of_the_softmax() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(4)) * 3
    probabilities = torch.softmax(logits.double(), dim=-1)
    order = probabilities.argsort(descending=True).tolist()
    step = measured(logits, forced=order[7])
    assert (step.id, step.rank, step.forced) == (order[7], 8, True)
    assert step.logprob == pytest.approx(math.log(probabilities[order[7]]))
    assert step.entropy == pytest.approx(float(-(probabilities * probabilities.log()).sum()))
    assert [i for i, _ in step.top] == order[:20]
    assert sum(math.exp(p) for _, p in step.top) < 1
    small = measured(logits[:9])
    assert sum(math.exp(p) for _, p in small.top) == pytest.approx(1.0, abs=1e-12)


def test_what_cannot_be_is_not_shown() -> None:
    logits = torch.tensor([0.0, 1.0, float("-inf")])
    step = measured(logits)
    assert [i for i, _ in step.top] == [1, 0]
    assert math.isfinite(step.entropy)
    with pytest.raises(Unavailable):
        measured(torch.tensor([0.0, float("nan")]))


def test_a_given_answer_is_scored_as_it_is_walked(model: FakeModel) -> None:
    walk = _walk(model, "x")
    list(walked([walk]))
    found = [value for piece in scored(model, "x", walk.prompt_ids, walk.ids) for value in piece]
    assert found == pytest.approx([step.logprob for step in walk.steps])
