"""Fields that OpenAI's document allows and that cannot change a text: they are taken, in every place where they may stand.

Beside them the few fields that do something and that no other contract test sends. The conformance record needs both.
"""

from typing import Any

import openai
import pytest

from tests.support.api_server import TUNED, ApiServer
from tests.support.round_trip import BASE_NAME

CACHED: dict[str, Any] = {"prompt_cache_breakpoint": {"mode": "explicit"}}
CALLER = {"type": "program", "caller_id": "prog_1"}
SAID = "Hello world!"


def test_fields_of_chat(server: ApiServer, client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "developer", "name": "dev", "content": [{"type": "text", "text": "a", **CACHED}]},
        {"role": "system", "name": "sys", "content": "b"},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "c", **CACHED}]},
        {"role": "assistant", "name": "bot", "content": [{"type": "text", "text": "d"}, {"type": "refusal", "refusal": "e"}]},
        {"role": "assistant", "content": None, "refusal": "f"},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
        {"role": "user", "content": "g"},
    ]
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": False}
    tools: list[Any] = [{"type": "function", "function": function}]
    more: dict[str, Any] = {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}}
    answer = client.chat.completions.create(model=TUNED, messages=messages, tools=tools, store=True, extra_body=more)
    assert answer.choices[0].message.content == SAID
    kept: list[Any] = server.client().chat.completions.messages.list(answer.id).data
    assert [(m.role, m.refusal) for m in kept[4:6]] == [("assistant", "f"), ("assistant", None)]
    assert kept[5].function_call.name == "f"
    client.chat.completions.delete(answer.id)


def test_fields_of_completions(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
        "logit_bias": {"5": 1},
        "stop": ["x", "y"],
        "temperature": 0.5,
        "top_p": 0.5,
        "user": "u",
    }
    assert client.completions.create(model=TUNED, prompt="hi", **fields).choices[0].text == SAID


def test_fields_of_responses(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "parallel_tool_calls": True,
        "max_tool_calls": 3,
        "reasoning": {"effort": "low", "summary": "auto", "generate_summary": "auto", "mode": "standard", "context": "auto"},
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "service_tier": "auto",
        "background": False,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
    }
    function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}, "strict": False}
    tool: Any = {"type": "function", **function, "output_schema": {"type": "object"}, "defer_loading": False, "allowed_callers": ["direct"]}
    more = {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}}
    answer = client.responses.create(model=TUNED, input="hi", tools=[tool], extra_body=more, **fields)
    assert (answer.output_text, answer.tools[0].to_dict()) == (SAID, {"type": "function", **function})


def annotations() -> list[dict[str, Any]]:
    """One of each kind."""
    url = {"type": "url_citation", "url": "https://example.org", "title": "t", "start_index": 0, "end_index": 1}
    file = {"file_id": "file-1", "filename": "a.txt"}
    return [
        url,
        {"type": "file_citation", "index": 0, **file},
        {"type": "container_file_citation", "container_id": "cntr_1", "start_index": 0, "end_index": 1, **file},
        {"type": "file_path", "file_id": "file-1", "index": 0},
    ]


@pytest.mark.parametrize("counted", [False, True], ids=["answered", "counted"])
def test_fields_of_items(client: openai.OpenAI, counted: bool) -> None:
    top = {"token": "d", "logprob": -0.5, "bytes": [100]}
    text = {"type": "output_text", "text": "d", "annotations": annotations(), "logprobs": [{**top, "top_logprobs": [top]}]}
    done = {"status": "completed", "caller": CALLER, "namespace": "crm"}
    items: list[Any] = [
        {"role": "system", "content": "a", "phase": "commentary"},
        {"type": "message", "role": "user", "status": "completed", "content": [{"type": "input_text", "text": "b", **CACHED}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [text, {"type": "refusal", "refusal": "e"}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}", **done},
        {
            "type": "function_call_output",
            "id": "fco_1",
            "call_id": "call_1",
            "name": "f",
            "output": [{"type": "input_text", "text": "1", **CACHED}],
            **done,
        },
    ]
    if counted:
        assert client.responses.input_tokens.count(model=TUNED, input=items).input_tokens > 0
    else:
        answer = client.responses.create(model=TUNED, input=items)
        assert answer.output_text == SAID
        kept: list[Any] = client.responses.input_items.list(answer.id, order="asc").data
        assert [item.type for item in kept] == ["message", "message", "message", "function_call", "function_call_output"]
        assert (kept[2].content[1].refusal, kept[4].output[0].text) == ("e", "1")


def test_fields_of_a_count(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "truncation": "auto",
        "personality": "friendly",
        "parallel_tool_calls": False,
        "tool_choice": "none",
    }
    assert client.responses.input_tokens.count(model=TUNED, input="hi", **fields).input_tokens > 0
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.input_tokens.count(model=TUNED, input="hi", conversation="conv_1")
    assert error.value.param == "conversation"


def test_parameters_of_stored_responses(client: openai.OpenAI) -> None:
    made = client.responses.create(model=TUNED, input="hi")
    kept = client.responses.retrieve(
        made.id, include=["message.output_text.logprobs"], include_obfuscation=False, starting_after=1, extra_query={"stream": "false"}
    )
    assert kept.output_text == SAID
    assert len(client.responses.input_items.list(made.id, include=["message.output_text.logprobs"]).data) == 1
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.retrieve(made.id, stream=True)
    assert error.value.param == "stream"


def test_names_in_an_integration(client: openai.OpenAI, training_file: str) -> None:
    wandb: Any = {"project": "p", "name": "n", "entity": "e", "tags": ["a"]}
    job = client.fine_tuning.jobs.create(model=BASE_NAME, training_file=training_file, integrations=[{"type": "wandb", "wandb": wandb}])
    assert job.integrations is not None
    assert (job.integrations[0].wandb.name, job.integrations[0].wandb.entity) == ("n", "e")


GRADER = {"type": "string_check", "name": "g", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}
CUSTOM_CALL = {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "x"}}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/chat/completions", {"messages": [{"role": "assistant", "tool_calls": [CUSTOM_CALL]}]}, "messages[0].tool_calls[0].type"),
        ("/chat/completions", {"moderation": {"model": "omni-moderation-latest"}}, "moderation"),
        ("/chat/completions", {"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "function_call"),
        ("/fine_tuning/jobs", {"method": {"type": "supervised", "reinforcement": {"grader": GRADER}}}, "method.reinforcement"),
        ("/fine_tuning/jobs", {"method": {"type": "supervised", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method.dpo"),
    ],
)
def test_what_would_have_an_effect_is_refused_by_name(server: ApiServer, path: str, fields: dict[str, Any], param: str) -> None:
    needed = {"training_file": "file-1"} if path == "/fine_tuning/jobs" else {"messages": [{"role": "user", "content": "hi"}]}
    with server.http() as http:
        answer = http.post(f"/v1{path}", json={"model": TUNED, **needed, **fields})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.json()["error"]["param"].startswith(param)
