"""From checked chat and completion bodies to what the engine is asked. Pure.

What it does: cross-field rules, the messages as plain dicts, sampling parameters, one ``Generate`` per choice; refuses what
would change the answer and is not offered. What it does not: resolve model names or generate. Called by
``routes/chat.py``, ``routes/completions.py`` and ``routes/luthier.py``.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from luthier.api.offered_tools import shown_tools
from luthier.api.schemas.chat import ChatMessage, ChatRequest
from luthier.api.schemas.completions import CompletionRequest
from luthier.api.schemas.fields import MAX_CHOICES, MAX_SEED
from luthier.api.validation import type_name
from luthier.core.engine_messages import Generate
from luthier.core.errors import InvalidRequest
from luthier.core.generation import ModelTarget, SamplingParams

DEFAULT_COMPLETION_TOKENS = 16
# Which parts a message may hold, each with the field that has its text; only the assistant refuses.
_PARTS = {"text": "text"}
_ASSISTANT_PARTS = {**_PARTS, "refusal": "refusal"}
_MEDIA_PARTS = ("image_url", "input_audio", "file")


def _unsupported_value(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="unsupported_value", param=param)


def _unsupported_parameter(param: str, advice: str = "") -> InvalidRequest:
    message = f"Unsupported parameter: '{param}' is not supported with this model.{advice}"
    return InvalidRequest(message, code="unsupported_parameter", param=param)


def _refuse_stray_stream_options(body: ChatRequest | CompletionRequest) -> None:
    if body.stream_options is not None and not body.stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise InvalidRequest(message, code="invalid_parameter_combination", param="stream_options")


def _refuse_format(response_format: dict[str, Any] | None) -> None:
    kind = "text" if response_format is None else response_format.get("type")
    if kind in ("json_object", "json_schema"):
        message = (
            f"Unsupported value: 'response_format.type' does not support '{kind}' with this model: its answers are free text. "
            "Supported values are: 'text'."
        )
        raise _unsupported_value("response_format.type", message)
    if kind is None:
        message = "Missing required parameter: 'response_format.type'."
        raise InvalidRequest(message, code="missing_required_parameter", param="response_format.type")
    if kind != "text":
        message = f"Invalid value: {str(kind)[:64]!r}. Supported values are: 'text', 'json_object' and 'json_schema'."
        raise InvalidRequest(message, code="invalid_value", param="response_format.type")


def _refuse_chat_features(body: ChatRequest) -> None:
    _refuse_format(body.response_format)
    if body.modalities and body.modalities != ["text"]:
        raise _unsupported_value("modalities", "Unsupported value: 'modalities' only supports ['text'] with this model.")
    for name in ("audio", "web_search_options", "moderation"):
        if getattr(body, name) is not None:
            raise _unsupported_parameter(name)


def _max_tokens(body: ChatRequest) -> int | None:
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise InvalidRequest(message, code="invalid_parameter_combination", param="max_tokens")
    return body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens


def _chat_logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        message = "The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled."
        raise InvalidRequest(message, code="invalid_parameter_combination", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def _sampling(body: ChatRequest | CompletionRequest, *, max_tokens: int | None, top_logprobs: int | None) -> SamplingParams:
    return SamplingParams(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=max_tokens,
        stop=tuple(body.stop or ()),
        seed=body.seed,
        top_logprobs=top_logprobs,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        logit_bias=tuple((int(token), bias) for token, bias in (body.logit_bias or {}).items() if bias),
    )


def _choices(request: Generate, n: int) -> list[Generate]:
    """``n`` requests that differ in their seeds only."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * n
    span = 2 * (MAX_SEED + 1)
    seeds = [(seed + i + MAX_SEED + 1) % span - MAX_SEED - 1 for i in range(n)]
    return [replace(request, sampling=replace(request.sampling, seed=s)) for s in seeds]


def chat_requests(body: ChatRequest, target: ModelTarget) -> list[Generate]:
    """One request per choice.

    Raises:
        InvalidRequest: a field asks for what is not offered, or fields contradict each other.
    """
    _refuse_stray_stream_options(body)
    _refuse_chat_features(body)
    tools = shown_tools(body)
    sampling = _sampling(body, max_tokens=_max_tokens(body), top_logprobs=_chat_logprobs(body))
    messages = plain_messages(body.messages)
    request = Generate(target=target, sampling=sampling, messages=messages, tools=tools, parse_tool_calls=bool(tools))
    return _choices(request, body.n or 1)


def _part_text(part: object, allowed: dict[str, str], param: str) -> str:
    if not isinstance(part, dict):
        raise InvalidRequest(
            f"Invalid type for '{param}': expected an object, but got {type_name(part)} instead.", code="invalid_type", param=param
        )
    kind = part.get("type")
    if isinstance(kind, str) and kind in _MEDIA_PARTS:
        raise _unsupported_value(f"{param}.type", f"Invalid content type. {kind} is not supported by this model, only text is.")
    if kind is None:
        raise InvalidRequest(f"Missing required parameter: '{param}.type'.", code="missing_required_parameter", param=f"{param}.type")
    if not isinstance(kind, str) or kind not in allowed:
        values = " and ".join(f"'{name}'" for name in allowed)
        message = f"Invalid value: {str(kind)[:64]!r}. Supported values are: {values}."
        raise InvalidRequest(message, code="invalid_value", param=f"{param}.type")
    text = part.get(allowed[kind])
    if not isinstance(text, str):
        name = f"{param}.{allowed[kind]}"
        raise InvalidRequest(
            f"Invalid type for '{name}': expected a string, but got {type_name(text)} instead.", code="invalid_type", param=name
        )
    return text


def _content_text(message: ChatMessage, param: str) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        allowed = _ASSISTANT_PARTS if message.role == "assistant" else _PARTS
        return "".join(_part_text(part, allowed, f"{param}.content[{i}]") for i, part in enumerate(content))
    may_be_null = message.role == "assistant" and (message.tool_calls or message.function_call or message.refusal is not None)
    if content is None and (may_be_null or message.role == "function"):
        return message.refusal or ""
    name = f"{param}.content"
    text = f"Invalid type for '{name}': expected a string or an array of objects, but got {type_name(content)} instead."
    raise InvalidRequest(text, code="invalid_type", param=name)


def _plain_message(message: ChatMessage, index: int) -> dict[str, Any]:
    param = f"messages[{index}]"
    if message.audio is not None:
        raise _unsupported_parameter(f"{param}.audio")
    plain: dict[str, Any] = {"role": message.role, "content": _content_text(message, param)}
    needed = {"tool": "tool_call_id", "function": "name"}.get(message.role)
    if needed is not None and not getattr(message, needed):
        name = f"{param}.{needed}"
        if getattr(message, needed) is None:
            raise InvalidRequest(f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name)
        text = f"Invalid '{name}': empty string. Expected a string with minimum length 1, but got an empty string instead."
        raise InvalidRequest(text, code="string_below_min_length", param=name)
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    calls = [call.model_dump() for call in message.tool_calls or ()]
    if message.function_call is not None and not calls:
        calls = [{"id": "call_0", "type": "function", "function": message.function_call.model_dump()}]
    if calls:
        plain["tool_calls"] = calls
    return plain


def plain_messages(messages: Sequence[ChatMessage]) -> tuple[dict[str, Any], ...]:
    """Messages as ``core.conversation`` knows them: text parts joined, a deprecated function call as a tool call.

    Raises:
        InvalidRequest: a message lacks what its role needs, or holds anything but text.
    """
    return tuple(_plain_message(message, index) for index, message in enumerate(messages))


def num_candidates(body: CompletionRequest) -> int:
    """Answers that are generated for each prompt; the best ``n`` of them are shown."""
    return body.best_of or body.n or 1


def _refuse_completion_features(body: CompletionRequest) -> None:
    n, candidates = body.n or 1, num_candidates(body)
    if candidates < n:
        raise InvalidRequest("Invalid 'best_of': it must be greater than or equal to 'n'.", code="invalid_value", param="best_of")
    if len(body.prompt) * candidates > MAX_CHOICES:
        name = "best_of" if candidates > n else "n"
        raise InvalidRequest(
            f"Too many answers: prompts times '{name}' must not exceed {MAX_CHOICES}.", code="integer_above_max_value", param=name
        )
    if body.stream and candidates > n:
        raise _unsupported_value("best_of", "Unsupported value: 'best_of' above 'n' cannot be streamed: the best are known at the end.")
    if body.suffix:
        raise _unsupported_parameter("suffix", " It writes what follows a text, never what stands between two texts.")


def completion_requests(body: CompletionRequest, target: ModelTarget) -> list[Generate]:
    """One request per prompt and candidate; index = prompt * candidates + candidate.

    Raises:
        InvalidRequest: a field asks for what is not offered, or fields contradict each other.
    """
    _refuse_stray_stream_options(body)
    _refuse_completion_features(body)
    candidates = num_candidates(body)
    # The best are found by their log-probabilities, shown or not.
    top_logprobs = 0 if body.logprobs is None and candidates > (body.n or 1) else body.logprobs
    max_tokens = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else body.max_tokens
    sampling = _sampling(body, max_tokens=max_tokens, top_logprobs=top_logprobs)
    requests: list[Generate] = []
    for prompt in body.prompt:
        if isinstance(prompt, str):
            request = Generate(target=target, sampling=sampling, prompt=prompt, echo=bool(body.echo))
        else:
            request = Generate(target=target, sampling=sampling, token_ids=prompt, echo=bool(body.echo))
        requests += _choices(request, candidates)
    return requests
