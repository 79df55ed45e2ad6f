from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError

from luthier.api.schemas.fields import Metadata, WireModel, refusal
from luthier.api.validation import invalid_request_of, param_path, type_name
from luthier.core.errors import InvalidRequest


class Inner(WireModel):
    kind: Literal["a", "b", "c"] = "a"


class Body(WireModel):
    number: Annotated[int, Field(ge=1, le=5)] = 1
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    text: Annotated[str, Field(min_length=1, max_length=3)] = "x"
    items: Annotated[list[Inner], Field(min_length=1, max_length=2)] = Field(default_factory=list)
    metadata: Metadata | None = None
    flag: bool = False


def error_for(plain: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(ValidationError) as caught:
        Body.model_validate(plain)
    return invalid_request_of(caught.value.errors())


@pytest.mark.parametrize(
    ("plain", "code", "param", "message"),
    [
        ({"x": 1}, "unknown_parameter", "x", "Unknown parameter: 'x'."),
        (
            {"number": 0},
            "integer_below_min_value",
            "number",
            "Invalid 'number': integer below minimum value. Expected a value >= 1, but got 0 instead.",
        ),
        (
            {"number": 6},
            "integer_above_max_value",
            "number",
            "Invalid 'number': integer above maximum value. Expected a value <= 5, but got 6 instead.",
        ),
        (
            {"share": 0},
            "decimal_below_min_value",
            "share",
            "Invalid 'share': decimal below minimum value. Expected a value > 0, but got 0 instead.",
        ),
        ({"number": "1"}, "invalid_type", "number", "Invalid type for 'number': expected an integer, but got a string instead."),
        ({"number": None}, "invalid_type", "number", "Invalid type for 'number': expected an integer, but got null instead."),
        ({"number": True}, "invalid_type", "number", "Invalid type for 'number': expected an integer, but got a boolean instead."),
        ({"flag": 1}, "invalid_type", "flag", "Invalid type for 'flag': expected a boolean, but got an integer instead."),
        ({"items": {}}, "invalid_type", "items", "Invalid type for 'items': expected an array, but got an object instead."),
        ({"items": [1]}, "invalid_type", "items[0]", "Invalid type for 'items[0]': expected an object, but got an integer instead."),
        (
            {"text": "long"},
            "string_above_max_length",
            "text",
            "Invalid 'text': string too long. Expected a string with maximum length 3, but got a string with length 4 instead.",
        ),
        (
            {"text": ""},
            "string_below_min_length",
            "text",
            "Invalid 'text': empty string. Expected a string with minimum length 1, but got an empty string instead.",
        ),
        (
            {"items": []},
            "array_below_min_length",
            "items",
            "Invalid 'items': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        ),
        (
            {"items": [{"kind": "d"}]},
            "invalid_value",
            "items[0].kind",
            "Invalid value: 'd'. Supported values are: 'a', 'b' and 'c'.",
        ),
        ({"metadata": {"k" * 65: "v"}}, "string_above_max_length", "metadata", None),
    ],
)
def test_each_fault_in_openais_words(plain: dict[str, Any], code: str, param: str, message: str | None) -> None:
    error = error_for(plain)
    assert (error.code, error.param) == (code, param)
    assert message is None or error.message == message


def test_long_values_are_cut_in_messages() -> None:
    assert len(error_for({"items": [{"kind": "x" * 10_000}]}).message) < 300


def test_braces_in_a_refusal_are_safe() -> None:
    assert "{x}" in str(refusal("code", "a {x} b"))


def test_places_and_types_have_names() -> None:
    assert param_path(("a", 0, "b", 12)) == "a[0].b[12]"
    assert [type_name(v) for v in (None, True, 1, 1.5, "", [], {})] == [
        "null",
        "a boolean",
        "an integer",
        "a decimal number",
        "a string",
        "an array",
        "an object",
    ]


def test_the_place_of_a_query_is_left_out() -> None:
    details = {"type": "int_parsing", "loc": ("query", "limit"), "input": "x", "msg": ""}
    assert invalid_request_of([details]).param == "limit"
