from typing import Any

import openai
import pytest

from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import saying


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.completions.create(**{"model": TUNED, "prompt": "Once", **fields})


def test_a_whole_answer(server: ApiServer, client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", TUNED)
    choice = answer.choices[0]
    assert (choice.text, choice.index, choice.finish_reason, choice.logprobs) == ("Hello world!", 0, "stop", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 4, 11)
    request = server.engine.generations[-1]
    assert (request.prompt, request.messages, request.token_ids, request.sampling.max_tokens) == ("Once", None, None, 16)


# Pieces of a stream have no finish_reason yet: null, as upstream sends it, which OpenAI's own schema does not allow for.
# The strict client therefore takes no text stream, theirs included.
def test_a_streamed_answer(server: ApiServer) -> None:
    chunks = list(ask(server.client(), stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].text for c in chunks[:-1]) == "Hello world!"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 11)


def test_logprobs(server: ApiServer, client: openai.OpenAI) -> None:
    logprobs = ask(client, logprobs=2).choices[0].logprobs
    assert logprobs.tokens == ["Hello", " world", "!"]
    assert logprobs.token_logprobs == [-0.5, -0.5, -0.5]
    assert logprobs.text_offset == [0, 5, 11]
    assert logprobs.top_logprobs[0] == {"Hello": -0.5, "alt1": -1.5}
    parts = [c.choices[0].logprobs for c in ask(server.client(), logprobs=0, stream=True)]
    assert [p.text_offset for p in parts if p is not None] == [[0], [5], [11]]


def test_several_prompts_and_choices(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda r: saying(f" {r.prompt}-{r.sampling.seed}")(r)
    answer = ask(client, prompt=["a", "b"], n=2, seed=1, echo=True, best_of=2)
    assert [c.text for c in answer.choices] == ["a a-1", "a a-2", "b b-1", "b b-2"]
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 8)
    texts = [""] * 4
    for chunk in ask(server.client(), prompt=["a", "b"], n=2, seed=1, echo=True, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [c.text for c in answer.choices]


@pytest.mark.parametrize(("prompt", "expected"), [([1, 2], [(1, 2)]), ([[1], [2, 3]], [(1,), (2, 3)])])
def test_token_prompts(server: ApiServer, client: openai.OpenAI, prompt: Any, expected: list[tuple[int, ...]]) -> None:
    ask(client, prompt=prompt)
    assert sorted(r.token_ids or () for r in server.engine.generations) == expected


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": []}, "invalid_type", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt"),
        ({"prompt": {"a": 1}}, "invalid_type", "prompt"),
        ({"prompt": [-1]}, "invalid_type", "prompt"),
        ({"prompt": ["a"] * 129}, "array_above_max_length", "prompt"),
        ({"prompt": ["a"] * 2, "n": 128}, "integer_above_max_value", "n"),
        ({"best_of": 5}, "unsupported_value", "best_of"),
        ({"suffix": "end"}, "unsupported_parameter", "suffix"),
        ({"echo": True, "logprobs": 1}, "unsupported_value", "logprobs"),
        ({"echo": True, "prompt": [1]}, "unsupported_value", "echo"),
        ({"logprobs": 6}, "integer_above_max_value", "logprobs"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"messages": []}, "unknown_parameter", "messages"),
    ],
)
def test_what_is_not_offered_or_wrong_is_400(server: ApiServer, fields: dict[str, Any], code: str, param: str) -> None:
    with server.http() as http:
        answer = http.post("/v1/completions", json={"model": TUNED, "prompt": "x", **fields})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
