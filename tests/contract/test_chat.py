import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from luthier.core.engine_messages import Failed, Finished, Generate, Started, TokenChunk
from luthier.core.generation import FinishReason
from tests.support.api_server import KEY, TUNED, ApiServer
from tests.support.fake_engine import HANG, HANG_UP, finished, saying

HI: list[Any] = [{"role": "user", "content": "hi"}]


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": TUNED, "messages": HI, **fields})


def asked(server: ApiServer) -> Generate:
    return server.engine.generations[-1]


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model, answer.service_tier) == ("chat.completion", TUNED, "default")
    choice = answer.choices[0]
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content, choice.message.refusal) == ("assistant", "Hello world!", None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 4, 11)
    assert answer.system_fingerprint.startswith("fp_")
    assert answer._request_id.startswith("req_")


def test_a_streamed_answer(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True))
    assert len({c.id for c in chunks}) == len({c.created for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}
    assert (chunks[0].choices[0].delta.role, chunks[0].choices[0].delta.content) == ("assistant", "")
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello world!"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(c.usage is None for c in chunks)


def test_a_stream_with_usage_ends_with_a_chunk_of_its_own(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == []
    assert chunks[-1].usage.model_dump(include={"prompt_tokens", "completion_tokens", "total_tokens"}) == {
        "prompt_tokens": 7,
        "completion_tokens": 4,
        "total_tokens": 11,
    }
    assert all(c.usage is None for c in chunks[:-1])


def test_chunks_are_padded_unless_asked_not_to(server: ApiServer) -> None:
    chunks = list(ask(server.client(), stream=True))
    lengths = {len(c.choices[0].delta.content or "") + len(c.obfuscation) for c in chunks}
    assert {n % 16 for n in lengths} == {0}
    plain = list(ask(server.client(), stream=True, stream_options={"include_obfuscation": False}))
    assert not any("obfuscation" in c.model_fields_set for c in plain)


def test_the_streams_wire_form(server: ApiServer) -> None:
    with server.http() as http:
        answer = http.post("/v1/chat/completions", json={"model": TUNED, "messages": HI, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert all(line.startswith("data: ") for line in lines[:-1])
    assert lines[-2:] == ["data: [DONE]", ""]


def test_sampling_parameters_reach_the_engine(server: ApiServer) -> None:
    ask(server.client(), temperature=0, top_p=0.5, max_completion_tokens=9, stop=["a", "b"], seed=-3)
    sampling = asked(server).sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0, 0.5, 9)
    assert (sampling.stop, sampling.seed, sampling.top_logprobs) == (("a", "b"), -3, None)
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.logit_bias) == (0.0, 0.0, ())
    ask(server.client(), frequency_penalty=0.5, presence_penalty=-2, logit_bias={"7": -100, "8": 0, "9": 1})
    sampling = asked(server).sampling
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.logit_bias) == (0.5, -2.0, ((7, -100.0), (9, 1.0)))
    ask(server.client(), max_tokens=5, stop="x")
    sampling = asked(server).sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens, sampling.stop, sampling.seed) == (1, 1, 5, ("x",), None)


def test_the_target_is_the_adapter_on_its_base(server: ApiServer) -> None:
    ask(server.client())
    target = asked(server).target
    assert target.name == TUNED
    assert target.base_path.endswith("/models/builtin/luthier-mini")
    assert target.adapter_path == str((server.services.settings.data_dir / "models/one").resolve())
    assert target.revision == "c" * 64


def test_an_openai_name_is_answered_by_the_default_base(client: openai.OpenAI, server: ApiServer) -> None:
    answer = ask(client, model="gpt-4o-mini")
    assert answer.model == "gpt-4o-mini-2024-07-18"
    assert (asked(server).target.name, asked(server).target.adapter_path) == ("luthier-mini", None)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        parts = [c.choices[0].logprobs for c in ask(client, stream=True, logprobs=True, top_logprobs=2)]
        tokens = [t for part in parts if part is not None for t in part.content]
    else:
        tokens = ask(client, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert [t.token for t in tokens] == ["Hello", " world", "!"]
    assert tokens[0].logprob == -0.5
    assert tokens[0].bytes == list(b"Hello")
    assert [t.token for t in tokens[0].top_logprobs] == ["Hello", "alt1"]


def test_logprobs_without_alternatives_and_minus_infinity(server: ApiServer, client: openai.OpenAI) -> None:
    ask(client, logprobs=True)
    assert asked(server).sampling.top_logprobs == 0


def test_several_choices(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda r: saying(f"seed {r.sampling.seed}")(r)
    answer = ask(client, n=3, seed=10)
    assert [c.message.content for c in answer.choices] == ["seed 10", "seed 11", "seed 12"]
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 6)
    texts = {0: "", 1: "", 2: ""}
    for chunk in ask(client, n=3, seed=10, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == {0: "seed 10", 1: "seed 11", 2: "seed 12"}


def test_messages_reach_the_engine_as_text(server: ApiServer) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "annotations": []},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "So."}, {"type": "refusal", "refusal": "No."}]},
    ]
    ask(server.client(), messages=messages)
    assert asked(server).messages == (
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": "ab", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "So.No."},
    )


def test_offered_tools_reach_the_engine_unless_forbidden(server: ApiServer) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    ask(server.client(), tools=[tool])
    assert asked(server).tools == (tool,)
    assert asked(server).parse_tool_calls
    ask(server.client(), tools=[tool], tool_choice="none")
    assert (asked(server).tools, asked(server).parse_tool_calls) == ((), False)
    other: Any = {"type": "function", "function": {"name": "g"}}
    ask(server.client(), tools=[tool, other], tool_choice=allowed("auto", "g"))
    assert asked(server).tools == (other,)


def test_fields_that_cannot_change_the_text_are_accepted(client: openai.OpenAI) -> None:
    harmless: dict[str, Any] = {
        "store": True,
        "metadata": {"a": "b"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "logprobs": False,
        "service_tier": "auto",
        "verbosity": "low",
        "reasoning_effort": "low",
        "modalities": ["text"],
        "parallel_tool_calls": False,
        "prediction": {"type": "content", "content": "x"},
        "n": 1,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "tool_choice": "auto",
        "function_call": "auto",
        "top_logprobs": None,
        "audio": None,
        "web_search_options": None,
        "stop": None,
        "stream": False,
    }
    assert ask(client, **harmless).choices[0].message.content == "Hello world!"


IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}]}]
TOOL = {"type": "function", "function": {"name": "f"}}


def parts(role: str, kind: str, **fields: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": [{"type": kind, kind: "x", "text": "x"}], **fields}]


def allowed(mode: str, name: str) -> dict[str, Any]:
    choice = {"mode": mode, "tools": [{"type": "function", "function": {"name": name}}]}
    return {"type": "allowed_tools", "allowed_tools": choice}


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"frequency_penalty": 2.5}, "decimal_above_max_value", "frequency_penalty"),
        ({"presence_penalty": -2.1}, "decimal_below_min_value", "presence_penalty"),
        ({"logit_bias": {"5": 100.5}}, "decimal_above_max_value", "logit_bias.5"),
        ({"logit_bias": {"5": -101}}, "decimal_below_min_value", "logit_bias.5"),
        ({"logit_bias": {"-1": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"five": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(1025)}}, "object_above_max_properties", "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "unsupported_value", "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "unsupported_value", "response_format.type"),
        ({"response_format": {"type": "xml"}}, "invalid_value", "response_format.type"),
        ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
        ({"tools": [TOOL], "tool_choice": "required"}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": TOOL}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "unsupported_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": allowed("required", "f")}, "unsupported_value", "tool_choice.allowed_tools.mode"),
        ({"tools": [TOOL], "tool_choice": allowed("auto", "g")}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "invalid_value", "tool_choice.allowed_tools"),
        ({"tool_choice": allowed("auto", "f")}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tools": [TOOL], "tool_choice": ["f"]}, "invalid_value", "tool_choice"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [TOOL] * 129}, "array_above_max_length", "tools"),
        ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
        ({"verbosity": "loud"}, "invalid_value", "verbosity"),
        ({"reasoning_effort": "heroic"}, "invalid_value", "reasoning_effort"),
        ({"service_tier": "gold"}, "invalid_value", "service_tier"),
        ({"prompt_cache_retention": "1h"}, "invalid_value", "prompt_cache_retention"),
        ({"safety_identifier": "s" * 65}, "string_above_max_length", "safety_identifier"),
        ({"stop": []}, "array_below_min_length", "stop"),
        ({"moderation": {"model": "x"}}, "unsupported_parameter", "moderation"),
        ({"messages": parts("user", "refusal")}, "invalid_value", "messages[0].content[0].type"),
        ({"messages": parts("system", "image_url")}, "unsupported_value", "messages[0].content[0].type"),
        ({"messages": parts("tool", "output_text", tool_call_id="c")}, "invalid_value", "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "missing_required_parameter", "messages[0].content[0].type"),
        ({"messages": [{"role": "assistant", "content": "x", "audio": {"id": "a"}}]}, "unsupported_parameter", "messages[0].audio"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio"),
        ({"messages": IMAGE}, "unsupported_value", "messages[0].content[0].type"),
        ({"foo": 1}, "unknown_parameter", "foo"),
        ({"messages": []}, "array_below_min_length", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "missing_required_parameter", "messages[0].tool_call_id"),
        ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
        ({"temperature": -1}, "decimal_below_min_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"top_p": 1.5}, "decimal_above_max_value", "top_p"),
        ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "invalid_parameter_combination", "max_tokens"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": 129}, "integer_above_max_value", "n"),
        ({"stop": ["a"] * 5}, "array_above_max_length", "stop"),
        ({"stop": ""}, "string_below_min_length", "stop[0]"),
        ({"top_logprobs": 21, "logprobs": True}, "integer_above_max_value", "top_logprobs"),
        ({"top_logprobs": 2}, "invalid_parameter_combination", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_parameter_combination", "stream_options"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"seed": 1.5}, "invalid_type", "seed"),
    ],
)
def test_what_is_not_offered_or_wrong_is_400(server: ApiServer, fields: dict[str, Any], code: str, param: str) -> None:
    with server.http() as http:
        answer = http.post("/v1/chat/completions", json={"model": TUNED, "messages": HI, **fields})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")
    assert not server.engine.generations


@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_model_is_not_found(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        ask(client, model="gpt-nothing", stream=stream)
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_by_the_engine_keeps_its_class(server: ApiServer, client: openai.OpenAI, stream: bool) -> None:
    server.engine.generate = lambda _: [Failed(kind="InvalidRequest", message="too long", code="context_length_exceeded", param="messages")]
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, stream=stream)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")


def test_a_full_engine_is_429(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda _: [Failed(kind="TooManyRequests", message="busy", code="rate_limit_exceeded")]
    with pytest.raises(openai.RateLimitError):
        ask(client)


def test_a_fault_of_the_engine_tells_nothing(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = lambda _: [Failed(kind="RuntimeError", message="boom at /secret/path 0x7f")]
    with pytest.raises(openai.InternalServerError) as error:
        ask(client)
    assert error.value.status_code == 500
    assert "secret" not in error.value.message
    assert error.value.type == "server_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_engine_is_503(server: ApiServer, client: openai.OpenAI, stream: bool) -> None:
    server.engine.generate = lambda _: [HANG_UP]
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, stream=stream)
    assert error.value.status_code == 503
    assert error.value.response.headers["retry-after"] == "1"


@pytest.mark.parametrize("ending", [HANG_UP, finished(reason=FinishReason.ABORTED), Failed(kind="Unavailable", message="gone")])
def test_an_error_in_the_middle_of_a_stream_is_an_event(server: ApiServer, ending: object) -> None:
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="half"), ending]
    with server.http() as http:
        text = http.post("/v1/chat/completions", json={"model": TUNED, "messages": HI, "stream": True}).text
    assert '"content":"half"' in text
    assert 'data: {"error":{"message":' in text
    assert "[DONE]" not in text
    assert "aborted" not in text
    with pytest.raises(openai.APIError):
        list(ask(server.client(), stream=True))


def test_a_reply_of_the_engine_that_makes_no_sense_is_an_event_too(server: ApiServer, client: openai.OpenAI) -> None:
    def script(_: Generate) -> Iterator[object]:
        yield Started(prompt_tokens=1)
        yield TokenChunk(text="\ud800")
        yield finished()

    server.engine.generate = script
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(ask(client, stream=True))


def test_the_engine_connection_is_closed_when_a_stream_is_left(server: ApiServer) -> None:
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="a"), HANG]
    stream = ask(server.client(), stream=True)
    next(iter(stream))
    stream.close()
    assert server.engine.aborted.acquire(timeout=60)


def test_all_connections_of_several_choices_are_closed(server: ApiServer) -> None:
    server.engine.generate = lambda _: [Started(prompt_tokens=1), TokenChunk(text="a"), HANG]
    stream = ask(server.client(), stream=True, n=2)
    next(iter(stream))
    stream.close()
    assert server.engine.aborted.acquire(timeout=60)
    assert server.engine.aborted.acquire(timeout=60)


@pytest.mark.parametrize("stream", [False, True])
def test_the_engine_connection_is_closed_when_a_waiting_caller_leaves(server: ApiServer, stream: bool) -> None:
    server.engine.generate = lambda _: [HANG]

    async def leave() -> None:
        client = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0)
        call = asyncio.ensure_future(client.chat.completions.create(model=TUNED, messages=HI, stream=stream))
        while not server.engine.generations:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await client.close()

    asyncio.run(leave())
    assert server.engine.aborted.acquire(timeout=60)


def test_the_stream_helper_of_the_client_works(server: ApiServer) -> None:
    with server.client().chat.completions.stream(model=TUNED, messages=HI) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello world!"


def test_length_is_told(server: ApiServer, client: openai.OpenAI) -> None:
    server.engine.generate = saying("x", reason=FinishReason.LENGTH)
    assert ask(client).choices[0].finish_reason == "length"
    assert isinstance(finished(), Finished)
