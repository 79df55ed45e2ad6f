from luthier.core.engine_messages import Failed, Finished, Started, TokenChunk
from luthier.core.generation import FinishReason
from luthier.engine.sampler import Pick
from luthier.engine.sequence import LOWEST_LOGPROB
from tests.support.engine_sequences import Recorded
from tests.support.fake_model import FakeText


def test_the_end_token_counts_and_is_not_shown() -> None:
    recorded = Recorded(stop_ids=frozenset({9}), text=FakeText(held_back="!"))
    recorded.sequence.start()
    recorded.sequence.accept(Pick(4), 1.5)
    recorded.sequence.accept(Pick(9), 2.0)
    assert recorded.replies[0] == Started(prompt_tokens=3)
    assert recorded.text == "<4>!"
    assert recorded.end == Finished(
        finish_reason=FinishReason.STOP, prompt_tokens=3, completion_tokens=2, first_token_seconds=1.5, total_seconds=2.0
    )
    assert all(not r.tokens for r in recorded.replies if isinstance(r, TokenChunk))


def test_the_token_limit_ends_with_length_and_lets_out_held_back_text() -> None:
    recorded = Recorded(max_new_tokens=2, text=FakeText(held_back="?"))
    recorded.sequence.accept(Pick(4), 1.0)
    assert not recorded.sequence.finished
    recorded.sequence.accept(Pick(5), 1.0)
    assert recorded.text == "<4><5>?"
    assert recorded.finished.finish_reason is FinishReason.LENGTH


def test_a_stop_string_ends_with_stop_even_at_the_limit() -> None:
    recorded = Recorded(max_new_tokens=1, text=FakeText(stop_at=5))
    recorded.sequence.accept(Pick(5), 1.0)
    assert recorded.text == ""
    assert recorded.finished.finish_reason is FinishReason.STOP
    assert recorded.finished.completion_tokens == 1


def test_logprobs_are_told_by_name_and_never_below_the_floor() -> None:
    recorded = Recorded()
    recorded.sequence.accept(Pick(4, -0.25, ((4, -0.25), (7, float("-inf")))), 1.0)
    (chunk,) = recorded.replies
    assert isinstance(chunk, TokenChunk)
    (token,) = chunk.tokens
    assert (token.id, token.text, token.bytes, token.logprob) == (4, "t4", (116, 52), -0.25)
    assert [(t.id, t.text, t.logprob) for t in token.top] == [(4, "t4", -0.25), (7, "t7", LOWEST_LOGPROB)]


def test_the_end_token_is_told_apart_when_logprobs_were_asked_for() -> None:
    recorded = Recorded(stop_ids=frozenset({9}))
    recorded.sequence.accept(Pick(9, -0.5, ((9, -0.5), (3, -1.0))), 1.0)
    end = recorded.finished.end_token
    assert end is not None
    assert (end.id, end.logprob) == (9, -0.5)
    assert [t.id for t in end.top] == [9, 3]
    assert not [r for r in recorded.replies if isinstance(r, TokenChunk)]


def test_there_is_exactly_one_end() -> None:
    recorded = Recorded()
    recorded.sequence.finish(FinishReason.ABORTED, 1.0)
    recorded.sequence.finish(FinishReason.STOP, 2.0)
    recorded.sequence.fail(Failed(kind="Unavailable", message="late"))
    assert len(recorded.replies) == 1
    assert recorded.finished.finish_reason is FinishReason.ABORTED
    assert recorded.finished.first_token_seconds == 0.0
