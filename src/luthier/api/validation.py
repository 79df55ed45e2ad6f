"""What pydantic found wrong, in OpenAI's words.

What it does: turns the first validation error of a body or query into an ``InvalidRequest`` with the code, the dotted
``param`` and the sentence of OpenAI's own validators (reference, section 0.2). What it does not: validate. Called by
``errors.py`` and ``bodies.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luthier.core.errors import InvalidRequest

_Details = Mapping[str, Any]

# Type names of pydantic's "this is not a ..." errors, as OpenAI says them.
_EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def type_name(value: object) -> str:
    """A JSON value's type with its article, as OpenAI's messages say it."""
    if value is None:
        return "null"
    names: tuple[tuple[type, str], ...] = (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "an integer"),
        (float, "a decimal number"),
        (list, "an array"),
        (dict, "an object"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "another type")


def param_path(location: Sequence[str | int]) -> str:
    """``("messages", 0, "role")`` as ``messages[0].role``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _show(value: object, limit: int = 100) -> str:
    """A refused value for a message: short, on one line."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _bound(word: str, sign: str, key: str) -> Callable[[str, _Details], tuple[str, str]]:
    side = "min" if word == "below" else "max"

    def describe(param: str, details: _Details) -> tuple[str, str]:
        limit = details["ctx"][key]
        kind = "decimal" if isinstance(limit, float) else "integer"
        text = f"{limit:g}" if isinstance(limit, float) else str(limit)
        whole = "minimum" if side == "min" else "maximum"
        message = (
            f"Invalid '{param}': {kind} {word} {whole} value. Expected a value {sign} {text}, but got {_show(details['input'])} instead."
        )
        return f"{kind}_{word}_{side}_value", message

    return describe


def _length(kind: str, word: str, key: str) -> Callable[[str, _Details], tuple[str, str]]:
    side, whole, state = ("max", "maximum", "long") if word == "above" else ("min", "minimum", "short")
    article = "a" if kind == "string" else "an"

    def describe(param: str, details: _Details) -> tuple[str, str]:
        limit, length = details["ctx"][key], len(details["input"])
        got = f"{article} {kind} with length {length}" if length else f"an empty {kind}"
        start = f"empty {kind}" if not length else f"{kind} too {state}"
        message = f"Invalid '{param}': {start}. Expected {article} {kind} with {whole} length {limit}, but got {got} instead."
        return f"{kind}_{word}_{side}_length", message

    return describe


def _list_values(quoted: str) -> str:
    return quoted.replace(" or ", " and ")


_DESCRIBED: dict[str, Callable[[str, _Details], tuple[str, str]]] = {
    "missing": lambda param, _: ("missing_required_parameter", f"Missing required parameter: '{param}'."),
    "extra_forbidden": lambda param, _: ("unknown_parameter", f"Unknown parameter: '{param}'."),
    "greater_than_equal": _bound("below", ">=", "ge"),
    "greater_than": _bound("below", ">", "gt"),
    "less_than_equal": _bound("above", "<=", "le"),
    "less_than": _bound("above", "<", "lt"),
    "string_too_long": _length("string", "above", "max_length"),
    "string_too_short": _length("string", "below", "min_length"),
    "too_long": _length("array", "above", "max_length"),
    "too_short": _length("array", "below", "min_length"),
    "literal_error": lambda _, details: (
        "invalid_value",
        f"Invalid value: {_show(details['input'])}. Supported values are: {_list_values(details['ctx']['expected'])}.",
    ),
}


def invalid_request_of(errors: Sequence[_Details]) -> InvalidRequest:
    """The first of pydantic's errors as the error that is raised; a body's or query's own place name is left out."""
    details = errors[0]
    location = tuple(details["loc"])
    if location and location[0] in ("body", "query", "path"):
        location = location[1:]
    param = param_path(location)
    kind = str(details["type"])
    if kind in _DESCRIBED:
        code, message = _DESCRIBED[kind](param, details)
    elif kind in _EXPECTED:
        code = "invalid_type"
        message = f"Invalid type for '{param}': expected {_EXPECTED[kind]}, but got {type_name(details['input'])} instead."
    elif "code" in details.get("ctx", {}):
        code, message = details["ctx"]["code"], str(details["msg"])
    else:
        code, message = "invalid_value", f"Invalid value for '{param}': {_show(details['input'])}."
    if code in ("unsupported_value", "unsupported_parameter"):
        message = f"{message} (parameter '{param}')" if f"'{param}'" not in message else message
    return InvalidRequest(message, code=code, param=param or None)
