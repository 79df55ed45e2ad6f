"""The body of ``POST /chat/completions`` (reference, section 4.2).

What it does: shapes and bounds of every field OpenAI has. Fields that cannot change a text answer are accepted and left
alone; what would change it and is not offered is refused by ``prompts.py``.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from luthier.api.schemas.fields import (
    AnyObject,
    ChatToolChoice,
    Choices,
    FunctionCallChoice,
    LogitBias,
    MaxTokens,
    Metadata,
    ModelName,
    OpenModel,
    Penalty,
    ResponseFormat,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    TopP,
    WireModel,
    refusal,
)

FunctionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_.-]+$")]
ShortText = Annotated[str, Field(max_length=512)]
_TEXT_PART = {"type": "object", "required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": {"type": "string"}}}
# Checked in ``prompts.py``, which knows the role.
Content = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}, {"type": "null"}]})]


class FunctionCall(OpenModel):
    """A function with the arguments the model gave it, as JSON text."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str


def _no_custom_tool(kind: object) -> object:
    if kind == "custom":
        raise refusal("unsupported_value", "Unsupported value: custom tools are not supported with this model, only functions are.")
    return kind


FunctionType = Annotated[Literal["function"], BeforeValidator(_no_custom_tool)]


class ToolCall(OpenModel):
    """One call of an assistant message."""

    id: Annotated[str, Field(min_length=1, max_length=256)]
    type: FunctionType = "function"
    function: FunctionCall


class ChatMessage(OpenModel):
    """One message; what each role needs is checked in ``prompts.py``."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content = None
    name: Annotated[str, Field(max_length=256)] | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None
    function_call: FunctionCall | None = None
    audio: AnyObject | None = None


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=4096)]


class FunctionDefinition(WireModel):
    """A function that is offered to the model."""

    name: FunctionName
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None


class DeprecatedFunction(WireModel):
    """One of ``functions``, the form that ``tools`` replaced."""

    name: FunctionName
    description: str | None = None
    parameters: AnyObject | None = None


class Tool(WireModel):
    """One of ``tools``."""

    type: FunctionType
    function: FunctionDefinition


class ChatRequest(WireModel):
    """A chat completion request."""

    model: ModelName
    messages: Messages
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: ChatToolChoice = None
    functions: Annotated[list[DeprecatedFunction], Field(min_length=1, max_length=128)] | None = None
    function_call: FunctionCallChoice = None
    modalities: list[str] | None = None
    audio: AnyObject | None = None
    web_search_options: AnyObject | None = None
    moderation: AnyObject | None = None
    parallel_tool_calls: bool | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    # Accepted and without effect on the text.
    user: ShortText | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: AnyObject | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    prediction: AnyObject | None = None


class StoredCompletionUpdate(WireModel):
    """What may be changed of a stored completion."""

    metadata: Metadata | None
