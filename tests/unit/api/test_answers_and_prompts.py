import math
from typing import Any

import pytest

from luthier.api.answers import LEAST_LOGPROB, ChatForm, CompletionForm, Head, chat_logprobs, completion_logprobs, token_offsets, usage
from luthier.api.prompts import chat_requests, completion_requests
from luthier.api.schemas.chat import ChatRequest
from luthier.api.schemas.completions import CompletionRequest
from luthier.api.schemas.fields import MAX_SEED
from luthier.core.engine_messages import Started, TokenChunk
from luthier.core.generation import ModelTarget
from tests.support.fake_engine import finished, token

TARGET = ModelTarget(name="m", base_path="/m")


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "m", "messages": [{"role": "user", "content": "x"}], **fields})


def text(**fields: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", **fields})


def head(**changes: Any) -> Head:
    return Head(**{"id": "i", "created": 1, "model": "m", "fingerprint": "f", "num_choices": 1, "logprobs": False, **changes})


def test_a_prompt_counts_once_for_all_its_choices() -> None:
    ends = [(i, finished(prompt_tokens=10 + i // 2, completion_tokens=3)) for i in range(4)]
    counts = usage(ends, per_prompt=2)
    assert (counts["prompt_tokens"], counts["completion_tokens"], counts["total_tokens"]) == (21, 12, 33)


def test_impossible_tokens_have_a_finite_logprob() -> None:
    tokens = [token("x", logprob=-math.inf, num_top=1)]
    assert chat_logprobs(tokens)["content"][0]["logprob"] == LEAST_LOGPROB
    assert completion_logprobs(tokens, [0])["top_logprobs"] == [{"x": LEAST_LOGPROB}]


def test_offsets_grow_with_the_tokens_texts() -> None:
    assert token_offsets([token("ab"), token("c"), token("")], 5) == [5, 7, 8]


def test_tokens_that_are_not_shown_move_no_offset() -> None:
    hidden = TokenChunk(text="", tokens=(token("<|mark|>"),))
    replies = [
        (0, TokenChunk(text="a", tokens=(token("a"),))),
        (0, hidden),
        (0, TokenChunk(text="b", tokens=(token("b"),))),
        (0, finished()),
    ]
    whole = CompletionForm(head(logprobs=True)).whole(replies)
    assert whole["choices"][0]["logprobs"]["text_offset"] == [0, 1, 1]


def test_choices_are_in_order_however_the_replies_came() -> None:
    replies = [(1, Started(prompt_tokens=1)), (1, TokenChunk(text="b")), (0, TokenChunk(text="a")), (1, finished()), (0, finished())]
    whole = ChatForm(head(num_choices=2)).whole(replies)
    assert [c["message"]["content"] for c in whole["choices"]] == ["a", "b"]


def test_seeds_of_choices_stay_in_range() -> None:
    seeds = [r.sampling.seed for r in chat_requests(chat(n=3, seed=MAX_SEED), TARGET)]
    assert seeds == [MAX_SEED, -MAX_SEED - 1, -MAX_SEED]
    assert [r.sampling.seed for r in chat_requests(chat(n=2), TARGET)] == [None, None]


def test_a_deprecated_function_call_becomes_a_tool_call() -> None:
    messages = [{"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}}]
    (request,) = chat_requests(chat(messages=messages), TARGET)
    assert request.messages is not None
    assert request.messages[0]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_an_earlier_refusal_is_content() -> None:
    (request,) = chat_requests(chat(messages=[{"role": "assistant", "refusal": "no"}]), TARGET)
    assert request.messages == ({"role": "assistant", "content": "no"},)


def test_no_prompt_is_an_empty_one() -> None:
    (request,) = completion_requests(text(), TARGET)
    assert (request.prompt, request.token_ids) == ("", None)


@pytest.mark.parametrize("best_of", [None, 0, 1])
def test_neutral_best_of(best_of: int | None) -> None:
    assert len(completion_requests(text(prompt="x", best_of=best_of), TARGET)) == 1


def test_exactly_one_kind_of_prompt_is_sent() -> None:
    for request in completion_requests(text(prompt=[[1], [2]]), TARGET) + chat_requests(chat(), TARGET):
        assert sum(p is not None for p in (request.prompt, request.messages, request.token_ids)) == 1
