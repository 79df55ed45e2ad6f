import math
from collections import Counter

import pytest
import torch

from luthier.core.generation import SamplingParams
from luthier.engine.sampler import Chooser, Pick, pick_tokens

VOCAB = 40


def _logits(rows: int, vocab: int = VOCAB, seed: int = 3) -> torch.Tensor:
    return torch.randn((rows, vocab), generator=torch.Generator().manual_seed(seed)) * 2


def _chooser(**sampling: object) -> Chooser:
    return Chooser.of(SamplingParams(**sampling))  # type: ignore[arg-type]


def _ids(picks: list[Pick | None]) -> list[int]:
    return [p.id for p in picks if p is not None]


@pytest.mark.parametrize("temperature", [0.0, 1e-9])
def test_temperature_zero_is_greedy(temperature: float) -> None:
    logits_BV = _logits(4)
    picks = pick_tokens(logits_BV, [_chooser(temperature=temperature) for _ in range(4)])
    assert _ids(picks) == logits_BV.argmax(dim=-1).tolist()
    assert all(p is not None and p.logprob is None and p.top == () for p in picks)


def test_a_seed_gives_the_same_tokens_again_and_another_seed_does_not() -> None:
    logits_BV = torch.zeros((1, 1000))

    def draw(seed: int) -> list[int]:
        chooser = _chooser(seed=seed)
        return [i for _ in range(20) for i in _ids(pick_tokens(logits_BV, [chooser]))]

    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


def test_without_a_seed_two_sequences_differ() -> None:
    logits_BV = torch.zeros((2, 100_000))
    first, second = _ids(pick_tokens(logits_BV, [_chooser(), _chooser()]))
    assert first != second


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch(top_p: float) -> None:
    logits_BV = _logits(5)

    def alone() -> list[int]:
        chooser = _chooser(seed=11, top_p=top_p, temperature=1.3)
        return [i for _ in range(30) for i in _ids(pick_tokens(logits_BV[2:3], [chooser]))]

    def among_others() -> list[int]:
        choosers = [
            _chooser(seed=1),
            _chooser(temperature=0.0),
            _chooser(seed=11, top_p=top_p, temperature=1.3),
            _chooser(top_p=0.5),
            _chooser(temperature=0.2),
        ]
        return [_ids(pick_tokens(logits_BV, choosers))[2] for _ in range(30)]

    assert alone() == among_others()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1, 0])
def test_every_64_bit_seed_is_taken(seed: int) -> None:
    assert len(_ids(pick_tokens(_logits(1), [_chooser(seed=seed)]))) == 1


def test_sampled_frequencies_follow_the_softmax_at_the_temperature() -> None:
    logits_V = torch.tensor([0.0, 1.0, 2.0, -1.0])
    chooser = _chooser(seed=5, temperature=2.0)
    draws = Counter(i for _ in range(4000) for i in _ids(pick_tokens(logits_V[None], [chooser])))
    expected = torch.softmax(logits_V / 2.0, dim=-1)
    for token in range(4):
        assert draws[token] / 4000 == pytest.approx(float(expected[token]), abs=0.03)


def test_top_p_keeps_the_fewest_best_tokens_that_reach_it() -> None:
    logits_V = torch.log(torch.tensor([0.1, 0.5, 0.25, 0.15]))
    chooser = _chooser(seed=1, top_p=0.7)
    draws = Counter(i for _ in range(2000) for i in _ids(pick_tokens(logits_V[None], [chooser])))
    assert set(draws) == {1, 2}
    assert draws[1] / 2000 == pytest.approx(2 / 3, abs=0.05)


def test_top_p_zero_is_greedy() -> None:
    logits_BV = _logits(3)
    picks = pick_tokens(logits_BV, [_chooser(top_p=0.0) for _ in range(3)])
    assert _ids(picks) == logits_BV.argmax(dim=-1).tolist()


def test_a_nucleus_wider_than_the_first_try_is_drawn_from_whole() -> None:
    logits_V = torch.zeros(2000)
    chooser = _chooser(seed=2, top_p=0.9)
    draws = {i for _ in range(1500) for i in _ids(pick_tokens(logits_V[None], [chooser]))}
    assert len(draws) > 600


def test_logprobs_are_the_log_softmax_of_the_raw_logits_whatever_the_temperature() -> None:
    logits_BV = _logits(2)
    picks = pick_tokens(logits_BV, [_chooser(temperature=0.0, top_logprobs=5), _chooser(seed=4, temperature=1.9, top_logprobs=3)])
    expected_BV = torch.log_softmax(logits_BV.double(), dim=-1)
    for row, pick in enumerate(picks):
        assert pick is not None
        assert pick.logprob == pytest.approx(float(expected_BV[row, pick.id]), abs=1e-9)
        best = expected_BV[row].sort(descending=True)
        count = (5, 3)[row]
        assert [i for i, _ in pick.top] == best.indices[:count].tolist()
        assert [p for _, p in pick.top] == pytest.approx(best.values[:count].tolist())


def test_all_alternatives_together_have_probability_one() -> None:
    (pick,) = pick_tokens(_logits(1), [_chooser(temperature=0.0, top_logprobs=VOCAB)])
    assert pick is not None
    assert sum(math.exp(p) for _, p in pick.top) == pytest.approx(1.0)


def test_zero_alternatives_still_give_the_tokens_own_logprob() -> None:
    (pick,) = pick_tokens(_logits(1), [_chooser(temperature=0.0, top_logprobs=0)])
    assert pick is not None
    assert pick.logprob is not None
    assert pick.top == ()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_gives_no_token_and_spares_the_others(bad: float) -> None:
    logits_BV = _logits(3)
    logits_BV[1, 5] = bad
    picks = pick_tokens(logits_BV, [_chooser(seed=1), _chooser(seed=1), _chooser(temperature=0.0)])
    assert picks[1] is None
    assert picks[0] is not None
    assert picks[2] == Pick(int(logits_BV[2].argmax()))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_bans_or_forces_a_token_and_leaves_the_logprobs_alone(temperature: float) -> None:
    logits_BV = _logits(2)
    best = int(logits_BV[0].argmax())
    forced = _chooser(temperature=temperature, seed=3, logit_bias=((7, 100.0),), top_logprobs=1)
    banned = _chooser(temperature=temperature, seed=3, logit_bias=((best, -100.0),))
    for _ in range(20):
        (pick,) = pick_tokens(logits_BV[:1], [forced])
        assert pick is not None
        assert pick.id == 7
        assert pick.logprob == pytest.approx(float(torch.log_softmax(logits_BV[0].double(), dim=-1)[7]))
        assert pick.top[0][0] == best
        assert best not in _ids(pick_tokens(logits_BV[:1], [banned]))


def test_a_bias_comes_before_the_temperature() -> None:
    logits_V = torch.zeros(4)
    chooser = _chooser(seed=5, temperature=2.0, logit_bias=((2, 3.0),))
    draws = Counter(i for _ in range(4000) for i in _ids(pick_tokens(logits_V[None], [chooser])))
    expected = torch.softmax(torch.tensor([0.0, 0.0, 3.0, 0.0]) / 2.0, dim=-1)
    for token in range(4):
        assert draws[token] / 4000 == pytest.approx(float(expected[token]), abs=0.03)


def test_a_frequency_penalty_grows_with_each_use_and_a_presence_penalty_does_not() -> None:
    logits_V = torch.tensor([2.2, 1.0, 0.0])

    def greedy(**penalty: float) -> list[int]:
        chooser = _chooser(temperature=0.0, **penalty)
        return [i for _ in range(6) for i in _ids(pick_tokens(logits_V[None], [chooser]))]

    assert greedy() == [0] * 6
    # 2.2, 1.7, 1.2, then 0.7 is below 1.0; the second falls to 0.5, the first wins again with 0.7, then both stand near 0.2 and 0.5.
    assert greedy(frequency_penalty=0.5) == [0, 0, 0, 1, 0, 1]
    assert greedy(presence_penalty=1.5) == [0, 1, 0, 0, 0, 0]
    assert greedy(presence_penalty=-2.0, frequency_penalty=0.0) == [0] * 6


def test_penalties_of_one_sequence_do_not_touch_another_nor_the_logits() -> None:
    logits_BV = torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    choosers = [_chooser(temperature=0.0, presence_penalty=2.0), _chooser(temperature=0.0)]
    assert [_ids(pick_tokens(logits_BV, choosers)) for _ in range(3)] == [[0, 0], [1, 0], [0, 0]]
    assert logits_BV.tolist() == [[2.0, 1.0], [2.0, 1.0]]
