"""What chat completions, completions and responses hold, for the OpenAPI document; see ``objects.py``."""

from typing import Annotated, Any, Literal

from pydantic import Field

from luthier.api.schemas.objects import Shape, Unix

# ---------------------------------------------------------------------------------------- chat completions, completions


class PromptDetails(Shape):
    """Parts of the prompt's tokens."""

    cached_tokens: int
    audio_tokens: int


class CompletionDetails(Shape):
    """Parts of the answer's tokens."""

    reasoning_tokens: int
    audio_tokens: int
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(Shape):
    """Exact token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class TopToken(Shape):
    """A token that might have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(TopToken):
    """A token of the answer."""

    top_logprobs: list[TopToken]


class ChatLogprobs(Shape):
    """Log-probabilities of a choice."""

    content: list[ChatToken]
    refusal: None


class CalledFunction(Shape):
    """A function with the arguments that the model gave it, as JSON text."""

    name: str
    arguments: str


class AnsweredCall(Shape):
    """A call that the model makes."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Shape):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[Any]
    tool_calls: list[AnsweredCall] | None = None


class ChatChoice(Shape):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(Shape):
    """An answer to a conversation; ``metadata`` only when it is stored."""

    id: str
    object: Literal["chat.completion"]
    created: Unix
    model: str
    service_tier: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    metadata: dict[str, str] | None = None


class StoredChatCompletion(ChatCompletion):
    """A stored answer, with what was asked for."""

    request_id: str
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    seed: int | None
    input_user: str | None
    tools: list[dict[str, Any]] | None
    tool_choice: Any
    response_format: dict[str, Any] | None


class StoredMessage(Shape):
    """A message that a stored answer answers, as it was sent, with an id of its own."""

    id: str
    role: str
    content: str | None
    content_parts: list[dict[str, Any]] | None
    refusal: str | None
    name: str | None = None
    tool_calls: list[AnsweredCall] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None


class TextLogprobs(Shape):
    """Log-probabilities of a text choice, one entry per token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Shape):
    """One continuation."""

    text: str
    index: int
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class TextCompletion(Shape):
    """Continued texts."""

    id: str
    object: Literal["text_completion"]
    created: Unix
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


# ----------------------------------------------------------------------------------------------------------- responses


class OutputText(Shape):
    """The text of an answer."""

    type: Literal["output_text"]
    annotations: list[Any]
    logprobs: list[ChatToken]
    text: str


class OutputMessage(Shape):
    """What the model said."""

    id: str
    type: Literal["message"]
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]
    role: Literal["assistant"]


class FailureReason(Shape):
    """Why a response failed."""

    code: str
    message: str


class Incomplete(Shape):
    """Why a response ends early."""

    reason: Literal["max_output_tokens"]


class ShownReasoning(Shape):
    """``reasoning``, as it was asked for."""

    effort: str | None
    summary: str | None


class PlainFormat(Shape):
    """``text.format``."""

    type: Literal["text"]


class ShownText(Shape):
    """``text``, as it was asked for."""

    format: PlainFormat
    verbosity: Literal["low", "medium", "high"]


class ShownTool(Shape):
    """One of ``tools``."""

    type: Literal["function"]
    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool


class CachedTokens(Shape):
    """Parts of the input's tokens."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(Shape):
    """Parts of the output's tokens."""

    reasoning_tokens: int


class ResponseUsage(Shape):
    """Exact token counts."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class ResponseObject(Shape):
    """A response."""

    id: str
    object: Literal["response"]
    created_at: Unix
    status: Literal["completed", "incomplete", "in_progress", "failed"]
    background: Literal[False]
    completed_at: Unix | None
    error: FailureReason | None
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputMessage]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    prompt_cache_retention: Literal["in_memory", "24h"] | None
    reasoning: ShownReasoning
    safety_identifier: str | None
    service_tier: str
    store: bool
    temperature: float
    text: ShownText
    tool_choice: str
    tools: list[ShownTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None
    metadata: dict[str, str]


class ResponseItem(Shape):
    """An item that a response was made from: a message, a call or its output."""

    id: str
    type: Literal["message", "function_call", "function_call_output"]
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Annotated[list[dict[str, Any]] | None, Field(description="Parts of a message.")] = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[dict[str, Any]] | None = None


class InputTokens(Shape):
    """How many tokens an input has."""

    object: Literal["response.input_tokens"]
    input_tokens: int
