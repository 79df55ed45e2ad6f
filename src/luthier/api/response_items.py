"""The items of a response: read from a request, kept with their ids, and told to the model as messages.

What it does: checks each input item, gives it the shape and the id under which it is stored and listed, and turns items
into the messages of ``core.conversation``. What it does not: look anything up. Called by ``response_prompts.py`` and
``routes/responses.py``.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from luthier.api.schemas.responses import FunctionCallItem, FunctionCallOutputItem, ItemReference, MessageItem
from luthier.api.validation import invalid_request_of, type_name
from luthier.core.errors import InvalidRequest
from luthier.core.ids import new_function_item_id, new_message_id

MAX_ITEMS = 4096

Item = dict[str, Any]
FindItem = Callable[[str], Item | None]
Model = TypeVar("Model", bound=BaseModel)

# Which parts a message of a role may hold, each with the field that has its text.
_ASSISTANT_PARTS = {"output_text": "text", "refusal": "refusal"}
_INPUT_PARTS = {"input_text": "text"}
_KNOWN_PARTS = frozenset({"input_text", "output_text", "refusal", "input_image", "input_file", "input_audio"})


def _invalid_type(param: str, expected: str, value: object) -> InvalidRequest:
    message = f"Invalid type for '{param}': expected {expected}, but got {type_name(value)} instead."
    return InvalidRequest(message, code="invalid_type", param=param)


def _checked(model: type[Model], item: Item, param: str) -> Model:
    try:
        return model.model_validate(item)
    except ValidationError as error:
        raise invalid_request_of([{**e, "loc": (param, *e["loc"])} for e in error.errors(include_url=False)]) from error


def _part(part: object, allowed: dict[str, str], param: str) -> Item:
    if not isinstance(part, dict):
        raise _invalid_type(param, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise InvalidRequest(f"Missing required parameter: '{param}.type'.", code="missing_required_parameter", param=f"{param}.type")
    if not isinstance(kind, str) or kind not in allowed:
        if not isinstance(kind, str) or kind not in _KNOWN_PARTS or kind in ("input_text", "output_text", "refusal"):
            values = " and ".join(f"'{name}'" for name in allowed)
            message = f"Invalid value: {str(kind)[:64]!r}. Supported values are: {values}."
            raise InvalidRequest(message, code="invalid_value", param=f"{param}.type")
        message = f"Unsupported value: '{param}.type' does not support '{kind}' with this model. Only text is supported."
        raise InvalidRequest(message, code="unsupported_value", param=f"{param}.type")
    field = allowed[kind]
    text = part.get(field)
    if not isinstance(text, str):
        raise _invalid_type(f"{param}.{field}", "a string", text)
    shown: Item = {"type": kind, field: text}
    return {**shown, "annotations": [], "logprobs": []} if kind == "output_text" else shown


def _parts(content: object, allowed: dict[str, str], param: str) -> list[Item]:
    if isinstance(content, str):
        return [_part({"type": next(iter(allowed)), "text": content}, allowed, param)]
    if isinstance(content, list):
        return [_part(part, allowed, f"{param}[{i}]") for i, part in enumerate(content)]
    raise _invalid_type(param, "a string or an array of objects", content)


def _message(item: Item, param: str) -> Item:
    message = _checked(MessageItem, item, param)
    allowed = _ASSISTANT_PARTS if message.role == "assistant" else _INPUT_PARTS
    return {
        "id": message.id or new_message_id(),
        "type": "message",
        "status": message.status or "completed",
        "role": message.role,
        "content": _parts(message.content, allowed, f"{param}.content"),
    }


def _function_call(item: Item, param: str) -> Item:
    call = _checked(FunctionCallItem, item, param)
    return {
        "id": call.id or new_function_item_id(),
        "type": "function_call",
        "status": call.status or "completed",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
    }


def _function_call_output(item: Item, param: str) -> Item:
    given = _checked(FunctionCallOutputItem, item, param)
    output = given.output if isinstance(given.output, str) else _parts(given.output, _INPUT_PARTS, f"{param}.output")
    return {
        "id": given.id or new_function_item_id(),
        "type": "function_call_output",
        "status": given.status or "completed",
        "call_id": given.call_id,
        "output": output,
    }


_READERS: dict[str, Callable[[Item, str], Item]] = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
}


def _kind(item: Item) -> object:
    if item.get("type") is not None:
        return item["type"]
    return "item_reference" if "id" in item and "role" not in item else "message"


def _referenced(item: Item, param: str, find: FindItem) -> Item:
    reference = _checked(ItemReference, item, param)
    found = find(reference.id)
    if found is None:
        message = (
            f"Item with id '{reference.id}' not found. Items are not persisted when `store` is set to false. "
            "Try again with `store` set to true, or remove this item from your input."
        )
        raise InvalidRequest(message, param="input")
    return found


def _item(item: object, param: str, find: FindItem) -> Item:
    if not isinstance(item, dict):
        raise _invalid_type(param, "an object", item)
    kind = _kind(item)
    if kind == "item_reference":
        return _referenced(item, param, find)
    if not isinstance(kind, str) or kind not in _READERS:
        supported = "'message', 'function_call', 'function_call_output' and 'item_reference'"
        message = (
            f"Unsupported value: '{param}.type' does not support {str(kind)[:64]!r} with this model. Supported values are: {supported}."
        )
        raise InvalidRequest(message, code="unsupported_value", param=f"{param}.type")
    return _READERS[kind](item, param)


def input_items(given: object, find: FindItem) -> tuple[Item, ...]:
    """A request's ``input`` as items with ids.

    Args:
        given: text, a list of items, or None.
        find: gives a stored item by its id, for item references.

    Raises:
        InvalidRequest: an item is malformed, holds anything but text, or refers to one that is not kept.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return (_message({"role": "user", "content": given}, "input"),)
    if not isinstance(given, list):
        raise _invalid_type("input", "a string or an array of objects", given)
    if len(given) > MAX_ITEMS:
        wanted = f"Expected an array with maximum length {MAX_ITEMS}, but got an array with length {len(given)} instead."
        raise InvalidRequest(f"Invalid 'input': array too long. {wanted}", code="array_above_max_length", param="input")
    return tuple(_item(item, f"input[{i}]", find) for i, item in enumerate(given))


def check_context(items: Sequence[Item]) -> None:
    """What must hold for the earlier items and the new ones together.

    Raises:
        InvalidRequest: an id stands twice, or a function's output answers no call.
    """
    seen: set[str] = set()
    calls: set[str] = set()
    for item in items:
        if item["id"] in seen:
            message = f"Duplicate item found with id {item['id']}. Remove duplicate items from your input and try again."
            raise InvalidRequest(message, param="input")
        seen.add(item["id"])
        if item["type"] == "function_call":
            calls.add(item["call_id"])
        elif item["type"] == "function_call_output" and item["call_id"] not in calls:
            raise InvalidRequest(f"No tool call found for function call output with call_id {item['call_id']}.", param="input")


def _text(parts: Sequence[Item]) -> str:
    return "".join(part["refusal"] if part["type"] == "refusal" else part["text"] for part in parts)


def messages_of(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Items as messages: calls belong to the assistant's message before them, a function's output is a tool's message."""
    messages: list[dict[str, Any]] = []
    for item in items:
        if item["type"] == "message":
            messages.append({"role": item["role"], "content": _text(item["content"])})
        elif item["type"] == "function_call":
            if not messages or messages[-1]["role"] != "assistant":
                messages.append({"role": "assistant", "content": ""})
            call = {"id": item["call_id"], "type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}
            messages[-1].setdefault("tool_calls", []).append(call)
        else:
            output = item["output"] if isinstance(item["output"], str) else _text(item["output"])
            messages.append({"role": "tool", "content": output, "tool_call_id": item["call_id"]})
    return messages
