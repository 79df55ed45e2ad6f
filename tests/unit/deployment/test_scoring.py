import math

import numpy as np
import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.deployment import scoring
from luthier.deployment.scoring import Entry, Row, _batches, score, score_prompt
from luthier.models.language_model import LanguageModel
from tests.support.mini import MINI, load_mini

# Ends inside the first answer of the long conversation.
CUT = 23
CONVERSATIONS = [
    [{"role": "user", "content": "Good morning"}, {"role": "assistant", "content": "Bonjour"}],
    [
        {"role": "system", "content": "Translate."},
        {"role": "user", "content": "Thank you very much, and see you tomorrow"},
        {"role": "assistant", "content": "Merci beaucoup, et à demain"},
        {"role": "user", "content": "Yes"},
        {"role": "assistant", "content": "Oui"},
    ],
    [{"role": "user", "content": "No"}, {"role": "assistant", "content": "Non", "weight": 0}],
    [{"role": "user", "content": "Good night"}, {"role": "assistant", "content": "Bonne nuit"}],
]


@pytest.fixture(scope="module")
def mini() -> LanguageModel:
    return load_mini(adapter="tuned")


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(MINI)


def _scores(mini: LanguageModel, renderer: Renderer, *, adapter: str | None = None, max_length: int = 512) -> tuple[Entry, ...]:
    *pieces, entries = score(mini, adapter, (renderer.example(conversation_of(c)) for c in CONVERSATIONS), max_length)
    assert all(piece is None for piece in pieces)
    assert entries is not None
    return entries


def _directly(mini: LanguageModel, renderer: Renderer, messages: list[dict[str, object]], adapter: str | None, max_length: int) -> Entry:
    """Token by token, one row at a time."""
    rendered = renderer.example(conversation_of(messages))
    ids = rendered.ids_T[:max_length].tolist()
    loss, count, correct = 0.0, 0, 0
    for t in range(1, len(ids)):
        if not rendered.weights_T[t]:
            continue
        with torch.no_grad(), mini.use_adapter(adapter):
            (logits_V,) = mini.logits_at(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([0]), torch.tensor([t - 1]))
        loss -= float(torch.log_softmax(logits_V.double(), dim=-1)[ids[t]])
        count += 1
        correct += int(logits_V.argmax()) == ids[t]
    return Entry(loss, count, correct)


@pytest.mark.parametrize("adapter", [None, "tuned"])
@pytest.mark.parametrize("max_length", [512, CUT])
def test_scores_equal_a_direct_computation(mini: LanguageModel, renderer: Renderer, adapter: str | None, max_length: int) -> None:
    entries = _scores(mini, renderer, adapter=adapter, max_length=max_length)
    for messages, entry in zip(CONVERSATIONS, entries, strict=True):
        expected = _directly(mini, renderer, messages, adapter, max_length)
        assert (entry.num_tokens, entry.num_correct) == (expected.num_tokens, expected.num_correct)
        assert math.isclose(entry.loss_sum, expected.loss_sum, rel_tol=1e-4)
    assert entries[2] == Entry()
    whole = len(renderer.example(conversation_of(CONVERSATIONS[1])).ids_T)
    assert (whole > max_length) == (max_length == CUT)
    assert entries[1].num_tokens > 0


def test_an_adapter_changes_the_scores(mini: LanguageModel, renderer: Renderer) -> None:
    assert _scores(mini, renderer) != _scores(mini, renderer, adapter="tuned")


def test_nothing_to_score_gives_no_entries(mini: LanguageModel) -> None:
    assert list(score(mini, None, [], 512)) == [()]


def _row(length: int, trained: int) -> Row:
    trained_T = np.zeros(length, dtype=bool)
    if trained:
        trained_T[-trained:] = True
    return Row(np.zeros(length, dtype=np.int64), trained_T)


def test_batches_hold_rows_of_like_length_and_every_trained_row_once() -> None:
    rows = [_row(length, 1) for length in (50, 3, 47, 4, 49)] + [_row(10, 0)] + [_row(48, 1)] * 15
    batches = list(_batches(rows, vocab_size=100))
    assert sorted(i for batch in batches for i in batch) == [0, 1, 2, 3, 4, *range(6, 21)]
    assert [len(batch) for batch in batches] == [16, 4]
    assert batches[0][:2] == [1, 3]


def test_batches_are_bounded_in_tokens_and_in_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "MAX_PIECE_TOKENS", 100)
    monkeypatch.setattr(scoring, "MAX_LOGITS_BYTES", 4 * 10 * 12)
    assert [len(b) for b in _batches([_row(30, 1)] * 7, vocab_size=10)] == [3, 3, 1]
    assert [len(b) for b in _batches([_row(10, 5)] * 5, vocab_size=10)] == [2, 2, 1]
    assert [len(b) for b in _batches([_row(500, 400)] * 2, vocab_size=10)] == [1, 1]


@pytest.mark.parametrize("adapter", [None, "tuned"])
@pytest.mark.parametrize("piece_tokens", [3, 1000])
def test_each_token_of_a_prompt_is_scored_after_those_before_it(
    mini: LanguageModel, renderer: Renderer, monkeypatch: pytest.MonkeyPatch, adapter: str | None, piece_tokens: int
) -> None:
    monkeypatch.setattr(scoring, "MAX_LOGITS_BYTES", 4 * mini.facts.vocab_size * piece_tokens)
    ids = renderer.tokenizer.encode("Good morning, how are you today?")
    assert len(ids) > 6
    pieces = list(score_prompt(mini, adapter, ids, 2))
    assert all(len(piece) <= piece_tokens for piece in pieces)
    picks = [pick for piece in pieces for pick in piece]
    assert [pick.id for pick in picks] == ids
    assert (picks[0].logprob, picks[0].top) == (0.0, ())
    for t in range(1, len(ids)):
        with torch.no_grad(), mini.use_adapter(adapter):
            (logits_V,) = mini.logits_at(torch.tensor([ids]), torch.tensor([len(ids)]), torch.tensor([0]), torch.tensor([t - 1]))
        logprobs_V = torch.log_softmax(logits_V.double(), dim=-1)
        assert picks[t].logprob == pytest.approx(float(logprobs_V[ids[t]]), abs=1e-4)
        assert [i for i, _ in picks[t].top] == torch.topk(logprobs_V, 2).indices.tolist()


def test_a_prompt_of_one_token_has_nothing_to_score(mini: LanguageModel) -> None:
    assert [pick.id for piece in score_prompt(mini, None, (5,), 1) for pick in piece] == [5]
