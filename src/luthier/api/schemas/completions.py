"""The body of ``POST /completions`` (reference, section 4.4). Checked here: shapes and bounds; the rest in ``prompts.py``."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from luthier.api.schemas.fields import (
    MAX_CHOICES,
    MAX_TOKENS,
    Choices,
    LogitBias,
    ModelName,
    Penalty,
    Seed,
    Stop,
    StreamOptions,
    Temperature,
    TopP,
    WireModel,
    refusal,
)

MAX_TOKEN_ID = 2**31 - 1
Prompt = str | tuple[int, ...]
_TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]], Field(min_length=1)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)]
_TokenLists = Annotated[list[_TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]


def _is_token_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(v) is int and 0 <= v <= MAX_TOKEN_ID for v in value)


def _prompts(value: object) -> list[Prompt]:
    """Text, texts, token ids or lists of them, as a list of prompts; null is the default, the start of a text."""
    if value is None:
        return [""]
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and _is_token_list(value):
        return [tuple(value)]
    if not isinstance(value, list) or not value:
        raise refusal("invalid_type", "Invalid type for 'prompt': expected a string, an array of strings, or arrays of token ids.")
    if len(value) > MAX_CHOICES:
        raise refusal("array_above_max_length", f"Invalid 'prompt': array too long. Expected an array with maximum length {MAX_CHOICES}.")
    if all(isinstance(v, str) for v in value):
        return value
    if all(_is_token_list(v) for v in value):
        return [tuple(v) for v in value]
    raise refusal("invalid_type", "Invalid type for 'prompt': expected a string, an array of strings, or arrays of token ids.")


class CompletionRequest(WireModel):
    """A completion request."""

    model: ModelName
    prompt: Annotated[
        list[str | tuple[int, ...]], BeforeValidator(_prompts, json_schema_input_type=str | _Texts | _TokenIds | _TokenLists | None)
    ] = Field(default_factory=lambda: [""])
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
