"""Parts that several request bodies share.

What it does: the strict base class, metadata, sampling bounds, stop strings, "auto". What it does not: cross-field rules
(``mapping.py`` and ``prompts.py`` hold those). Called by the other schemas.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

MAX_SEED = 2**63 - 1
MAX_CHOICES = 128
MAX_TOKENS = 10_000_000
MAX_BIASES = 1024
_MAX_TOKEN_DIGITS = 9


class WireModel(BaseModel):
    """A body or a part of one: JSON types are not converted, unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class OpenModel(BaseModel):
    """A part that clients fill with fields of their own, such as a message of an earlier answer: unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


def refusal(code: str, message: str) -> PydanticCustomError:
    """An error with OpenAI's code, for validators; braces in ``message`` are safe."""
    return PydanticCustomError("refused", "{text}", {"code": code, "text": message})  # type: ignore[misc]


def _auto_is_none(value: object, check: Callable[[object], object]) -> object:
    return None if value == "auto" else check(value)


class _OrAuto:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(_auto_is_none, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"const": "auto"}, handler(schema)]}


AUTO = _OrAuto()
"""Makes a field accept "auto", which is kept as None."""


def _check_metadata(metadata: dict[str, str]) -> dict[str, str]:
    if len(metadata) > 16:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got {len(metadata)} instead."
        )
        raise refusal("object_above_max_properties", message)
    if any(len(key) > 64 for key in metadata):
        raise refusal("string_above_max_length", "Invalid 'metadata': keys must have at most 64 characters.")
    return metadata


Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=512)]],
    AfterValidator(_check_metadata),
    Field(json_schema_extra={"maxProperties": 16, "propertyNames": {"maxLength": 64}}),
]


def one_is_a_list(value: object) -> object:
    """A word alone as a list of one, for fields that take both."""
    return [value] if isinstance(value, str) else value


_StopText = Annotated[str, Field(min_length=1, max_length=1024)]
_Stops = Annotated[list[_StopText], Field(min_length=1, max_length=4)]
Stop = Annotated[_Stops, BeforeValidator(one_is_a_list, json_schema_input_type=_StopText | _Stops)]
"""One string or up to four."""

ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Temperature = Annotated[float, Field(ge=0.0, le=2.0)]
TopP = Annotated[float, Field(ge=0.0, le=1.0)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
Choices = Annotated[int, Field(ge=1, le=MAX_CHOICES)]
MaxTokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Seed = Annotated[int, Field(ge=-MAX_SEED - 1, le=MAX_SEED)]


def _check_bias(biases: dict[str, float]) -> dict[str, float]:
    if len(biases) > MAX_BIASES:
        message = (
            f"Invalid 'logit_bias': too many properties. Expected an object with at most {MAX_BIASES} properties, but got {len(biases)} "
            "instead."
        )
        raise refusal("object_above_max_properties", message)
    for key in biases:
        if not (key.isascii() and key.isdigit() and len(key) <= _MAX_TOKEN_DIGITS):
            raise refusal(
                "invalid_value", f"Invalid key in 'logit_bias': {key[:64]!r}. You should only be submitting non-negative integers."
            )
    return biases


LogitBias = Annotated[
    dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]],
    AfterValidator(_check_bias),
    Field(json_schema_extra={"maxProperties": MAX_BIASES, "propertyNames": {"pattern": f"^[0-9]{{1,{_MAX_TOKEN_DIGITS}}}$"}}),
]
"""Token ids as text, and what is added to their logits. The model's vocabulary is checked by the engine host."""


class StreamOptions(WireModel):
    """``stream_options``."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


AnyObject = dict[str, Any]


def _shape(required: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": required}


_ALLOWED = {"mode": {"enum": ["auto", "required"]}, "tools": {"type": "array", "items": {"type": "object"}}}
_NULL = {"type": "null"}
_FORCED = _shape({"type": {"const": "function"}})
_CHOICES = {"type": "string", "enum": ["none", "auto", "required"]}

# What these four may hold is checked in ``offered_tools.py`` and ``prompts.py``; here it is only told, for the OpenAPI document.
ChatToolChoice = Annotated[
    Any,
    WithJsonSchema({"anyOf": [_CHOICES, _FORCED, _shape({"type": {"const": "allowed_tools"}, "allowed_tools": _shape(_ALLOWED)}), _NULL]}),
]
"""``tool_choice`` of chats."""
ResponseToolChoice = Annotated[
    Any, WithJsonSchema({"anyOf": [_CHOICES, _FORCED, _shape({"type": {"const": "allowed_tools"}, **_ALLOWED}), _NULL]})
]
"""``tool_choice`` of responses: there the allowed tools stand beside the type."""
FunctionCallChoice = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "string", "enum": ["none", "auto"]}, _shape({"name": {"type": "string"}}), _NULL]})
]
"""``function_call``, the form that ``tool_choice`` replaced."""

ResponseFormat = Annotated[AnyObject, WithJsonSchema(_shape({"type": {"enum": ["text", "json_object", "json_schema"]}}))]
"""``response_format`` of chats."""
