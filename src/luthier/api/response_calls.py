"""The function calls of a response: as items, and as the events that tell them in a stream (reference, section 4.5). Pure.

What it does: ids, items, events. What it does not: read calls out of a text (``chat/tool_calls.py`` does). Called by
``response_form.py``.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from luthier.core.generation import CalledTool
from luthier.core.ids import new_function_item_id, new_tool_call_id

Item = dict[str, Any]
Event = dict[str, Any]


def call_items(calls: Sequence[CalledTool]) -> list[Item]:
    """One ``function_call`` item for each call. The engine tells a call only when it is whole."""
    return [
        {
            "id": new_function_item_id(),
            "type": "function_call",
            "status": "completed",
            "call_id": new_tool_call_id(),
            "name": call.name,
            "arguments": call.arguments,
        }
        for call in calls
    ]


def call_events(item: Item, output_index: int, padding: Callable[[str], str] | None) -> Iterator[Event]:
    """The events of one call: it begins, its arguments come, it is done.

    Args:
        item: the call.
        output_index: its place among the response's items.
        padding: makes the obfuscation of a delta; None when the client declined it.
    """
    place = {"item_id": item["id"], "output_index": output_index}
    arguments = item["arguments"]
    begun = {**item, "status": "in_progress", "arguments": ""}
    delta = {"type": "response.function_call_arguments.delta", **place, "delta": arguments}
    yield {"type": "response.output_item.added", "output_index": output_index, "item": begun}
    yield delta if padding is None else {**delta, "obfuscation": padding(arguments)}
    yield {"type": "response.function_call_arguments.done", **place, "name": item["name"], "arguments": arguments}
    yield {"type": "response.output_item.done", "output_index": output_index, "item": item}
