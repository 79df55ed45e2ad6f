"""Bodies of ``POST /responses`` and ``POST /responses/input_tokens`` (reference, section 4.5).

What it does: shapes and bounds of every field OpenAI has. Fields that cannot change a text answer are accepted and left
alone; what would change it and is not offered is refused by ``response_prompts.py``, items are read by
``response_items.py``.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from luthier.api.schemas.chat import FunctionName
from luthier.api.schemas.fields import AnyObject, Metadata, ModelName, OpenModel, ResponseToolChoice, Temperature, TopP, WireModel

Identifier = Annotated[str, Field(max_length=512)]
ItemId = Annotated[str, Field(min_length=1, max_length=128)]
CallId = Annotated[str, Field(min_length=1, max_length=64)]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Include = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class MessageItem(OpenModel):
    """A message among the input items; its parts are read by ``response_items.py``."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Any
    id: ItemId | None = None
    status: ItemStatus | None = None


class FunctionCallItem(OpenModel):
    """A call that the model made in an earlier turn."""

    call_id: CallId
    name: Annotated[str, Field(min_length=1, max_length=256)]
    arguments: str
    id: ItemId | None = None
    status: ItemStatus | None = None


class FunctionCallOutputItem(OpenModel):
    """What a called function gave back."""

    call_id: CallId
    output: Any
    id: ItemId | None = None
    status: ItemStatus | None = None


class ItemReference(OpenModel):
    """An item of a stored response, by its id."""

    id: ItemId


class ResponseTool(OpenModel):
    """One of ``tools``: a function; other kinds are refused by ``response_prompts.py``."""

    type: Annotated[str, Field(max_length=64)]
    name: FunctionName | None = None
    description: str | None = None
    parameters: AnyObject | None = None
    strict: bool | None = None


class Reasoning(OpenModel):
    """``reasoning``: shown again in the answer, without effect."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class TextFormat(OpenModel):
    """``text.format``."""

    type: Literal["text", "json_object", "json_schema"]


class TextConfig(WireModel):
    """``text``."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseStreamOptions(WireModel):
    """``stream_options``."""

    include_obfuscation: bool | None = None


def _item_schema(kind: str | None, **fields: AnyObject) -> AnyObject:
    given: AnyObject = {} if kind is None else {"type": {"const": kind}}
    return {"type": "object", "required": [*given, *fields], "properties": {**given, **fields}}


_TEXT_SCHEMA: AnyObject = {"type": "string"}
_ID_SCHEMA: AnyObject = {"type": "string", "minLength": 1, "maxLength": 64}
_NAME_SCHEMA: AnyObject = {"type": "string", "minLength": 1, "maxLength": 256}
_ROLE_SCHEMA: AnyObject = {"enum": ["user", "assistant", "system", "developer"]}
_ITEM_SCHEMAS: list[AnyObject] = [
    _item_schema("message", role=_ROLE_SCHEMA, content=_TEXT_SCHEMA),
    _item_schema(
        "message",
        role={"enum": ["user", "system", "developer"]},
        content={"type": "array", "items": _item_schema("input_text", text=_TEXT_SCHEMA)},
    ),
    _item_schema(
        "message", role={"const": "assistant"}, content={"type": "array", "items": _item_schema("output_text", text=_TEXT_SCHEMA)}
    ),
    _item_schema("function_call", call_id=_ID_SCHEMA, name=_NAME_SCHEMA, arguments=_TEXT_SCHEMA),
    _item_schema("function_call_output", call_id=_ID_SCHEMA, output=_TEXT_SCHEMA),
    _item_schema("item_reference", id={"type": "string", "minLength": 1, "maxLength": 128}),
]
# Read by ``response_items.py``; the document names what it takes.
Input = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": _ITEM_SCHEMAS}}, {"type": "null"}]})
]


class InputTokensRequest(WireModel):
    """What is counted: the fields of a response that its prompt is made from."""

    model: ModelName
    input: Input = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: ResponseToolChoice = None
    text: TextConfig | None = None
    conversation: Any = None
    # Accepted and without effect on the text.
    truncation: Literal["auto", "disabled"] | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    personality: Annotated[str, Field(max_length=64)] | None = None


class ResponseRequest(WireModel):
    """A response request."""

    model: ModelName
    input: Input = None
    instructions: str | None = None
    previous_response_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    max_output_tokens: Annotated[int, Field(ge=16, le=10_000_000)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    include: Annotated[list[Include], Field(max_length=16)] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=128)] | None = None
    tool_choice: ResponseToolChoice = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: AnyObject | None = None
    context_management: list[AnyObject] | None = None
    moderation: AnyObject | None = None
    # Accepted and without effect on the text.
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    reasoning: Reasoning | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None
    prompt_cache_key: Identifier | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    prompt_cache_options: AnyObject | None = None
    service_tier: Identifier | None = None
    access_programs: AnyObject | None = None
    # Of runs in the background and of images, which are refused themselves.
    background_options: AnyObject | None = None
    image: AnyObject | None = None
