from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Generate, Started, TokenChunk
from luthier.core.generation import FinishReason
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import finished, saying, token


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


def test_a_prompt_is_scored_without_generating(server: ApiServer) -> None:
    """What evaluation harnesses ask for. OpenAI's own schema has no null among the probabilities: the client is the lenient one."""
    server.engine.generate = saying(reason=FinishReason.LENGTH)
    for prompt, words in (("Once upon a time", ["Once", " upon", " a", " time"]), ([5, 6], ["<5>", "<6>"])):
        choice = ask(server.client(), prompt=prompt, max_tokens=0, echo=True, logprobs=2).choices[0]
        assert (choice.text, choice.finish_reason) == ("".join(words), "length")
        assert choice.logprobs.tokens == words
        assert choice.logprobs.token_logprobs == [None] + [-2.0] * (len(words) - 1)
        assert choice.logprobs.top_logprobs[0] is None
        assert choice.logprobs.top_logprobs[1] == {words[1]: -2.0, "alt1": -3.0}
        assert choice.logprobs.text_offset == [sum(map(len, words[:i])) for i in range(len(words))]
    request = server.engine.generations[-1]
    assert (request.echo, request.sampling.max_tokens, request.sampling.top_logprobs) == (True, 0, 2)


def test_an_echoed_prompt_and_its_answer_are_scored_as_one_text(server: ApiServer) -> None:
    whole = ask(server.client(), prompt="Once upon", echo=True, logprobs=1).choices[0]
    assert whole.text == "Once uponHello world!"
    assert whole.logprobs.tokens == ["Once", " upon", "Hello", " world", "!"]
    assert whole.logprobs.token_logprobs == [None, -2.0, -0.5, -0.5, -0.5]
    assert whole.logprobs.text_offset == [0, 4, 9, 14, 20]
    chunks = [c.choices[0] for c in ask(server.client(), prompt="Once upon", echo=True, logprobs=1, stream=True)]
    assert "".join(c.text for c in chunks) == whole.text
    parts = [c.logprobs for c in chunks if c.logprobs is not None]
    for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
        assert [value for part in parts for value in getattr(part, name)] == getattr(whole.logprobs, name)


def test_the_best_answers_by_their_mean_probability_are_shown(server: ApiServer, client: openai.OpenAI) -> None:
    def script(request: Generate) -> list[Any]:
        # The best of five is the longest: its sum is the lowest, its mean the highest.
        seed = request.sampling.seed or 0
        texts = ["x"] * (1 + 4 * (seed == 3))
        chunks = [TokenChunk(text=t, tokens=(token(t, -0.4 if seed == 3 else -float(seed)),)) for t in [f"{request.prompt}{seed}", *texts]]
        return [Started(prompt_tokens=7), *chunks, finished(completion_tokens=len(chunks))]

    server.engine.generate = script
    answer = ask(client, prompt=["a", "b"], n=2, best_of=5, seed=1)
    assert [(c.index, c.text[:2], c.logprobs) for c in answer.choices] == [
        (0, "a3", None),
        (1, "a1", None),
        (2, "b3", None),
        (3, "b1", None),
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 2 * (4 * 2 + 6))
    assert len(server.engine.generations) == 10


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": []}, "invalid_type", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt"),
        ({"prompt": {"a": 1}}, "invalid_type", "prompt"),
        ({"prompt": [-1]}, "invalid_type", "prompt"),
        ({"prompt": ["a"] * 129}, "array_above_max_length", "prompt"),
        ({"prompt": ["a"] * 2, "n": 128}, "integer_above_max_value", "n"),
        ({"best_of": 5, "stream": True}, "unsupported_value", "best_of"),
        ({"best_of": 2, "n": 3}, "invalid_value", "best_of"),
        ({"best_of": 21}, "integer_above_max_value", "best_of"),
        ({"best_of": 20, "prompt": ["a"] * 7}, "integer_above_max_value", "best_of"),
        ({"logit_bias": {"x": 1}}, "invalid_value", "logit_bias"),
        ({"suffix": "end"}, "unsupported_parameter", "suffix"),
        ({"logprobs": 6}, "integer_above_max_value", "logprobs"),
        ({"max_tokens": -1}, "integer_below_min_value", "max_tokens"),
        ({"messages": []}, "unknown_parameter", "messages"),
    ],
)
def test_what_is_not_offered_or_wrong_is_400(server: ApiServer, fields: dict[str, Any], code: str, param: str) -> None:
    with server.http() as http:
        answer = http.post("/v1/completions", json={"model": TUNED, "prompt": "x", **fields})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
