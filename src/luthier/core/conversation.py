"""Messages of a conversation, as every room passes them on.

What it does: the frozen message and its conversion from and to plain dicts. What it does not: check the wire's rules
(``api/schemas`` and ``data/validate`` do). Called by chat, data, evaluation, api.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. ``weight`` 0 means: context only, never trained on."""

    role: Role
    content: str = ""
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """An ordered list of messages, with the tools that were offered."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = field(default=())


def message_to_dict(message: Message) -> dict[str, Any]:
    """The message as templates and wires know it; absent fields are left out."""
    plain: dict[str, Any] = {"role": message.role.value, "content": message.content}
    if message.name is not None:
        plain["name"] = message.name
    if message.tool_calls:
        plain["tool_calls"] = list(message.tool_calls)
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    return plain


def message_from_dict(plain: dict[str, Any]) -> Message:
    """The inverse of ``message_to_dict``; text parts are joined. Expects checked input."""
    content = plain.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return Message(
        role=Role(plain["role"]),
        content=content or "",
        name=plain.get("name"),
        tool_calls=tuple(plain.get("tool_calls") or ()),
        tool_call_id=plain.get("tool_call_id"),
        weight=float(plain.get("weight", 1) if plain.get("weight") is not None else 1),
    )


def conversation_of(messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None) -> Conversation:
    """A conversation from checked plain dicts."""
    return Conversation(messages=tuple(message_from_dict(m) for m in messages), tools=tuple(tools or ()))
