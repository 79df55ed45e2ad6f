"""Counts of what is sound in a file: rows, roles, messages, the longest line.

What it does not: judge rows, or count tokens (preprocessing does). Called by ``check.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.core.examples import RowFormat


class Counts:
    """Takes sound rows one by one, in flat memory."""

    def __init__(self) -> None:
        self.rows = 0
        self._roles: dict[str, int] = {}
        self._messages = 0
        self._fewest = 0
        self._most = 0
        self._untrained = 0
        self._calls = 0
        self._with_tools = 0
        self._without_system = 0
        self._without_user = 0
        self._longest_bytes = 0
        self._longest_line = 0

    def add(self, row: Mapping[str, Any], row_format: RowFormat, line: int, num_bytes: int) -> None:
        """Count one sound row."""
        self.rows += 1
        if num_bytes > self._longest_bytes:
            self._longest_bytes, self._longest_line = num_bytes, line
        if row_format is RowFormat.PROMPT_COMPLETION:
            return
        asked = row["input"] if row_format is RowFormat.PREFERENCE else row
        if len(asked) > 1 and (asked.get("tools") or asked.get("functions")):
            self._with_tools += 1
        self._add_messages(asked["messages"])

    def _add_messages(self, messages: Sequence[Mapping[str, Any]]) -> None:
        roles, number = self._roles, len(messages)
        self._messages += number
        if number > self._most:
            self._most = number
        if number < self._fewest or not self._fewest:
            self._fewest = number
        system = user = False
        for message in messages:
            role = message["role"]
            roles[role] = roles.get(role, 0) + 1
            if role == "user":
                user = True
            elif role in ("system", "developer"):
                system = True
            if len(message) != 2 or "content" not in message:
                self._untrained += role == "assistant" and message.get("weight") == 0
                self._calls += 1 if message.get("function_call") else len(message.get("tool_calls") or ())
        self._without_system += not system
        self._without_user += not user

    def to_dict(self) -> dict[str, Any]:
        """The counts for a report; those of messages only where rows have messages."""
        counts: dict[str, Any] = {"rows": self.rows, "longest_line": self._longest_line, "longest_line_bytes": self._longest_bytes}
        if self._messages:
            counts |= {
                "messages": self._messages,
                "roles": dict(sorted(self._roles.items())),
                "fewest_messages": self._fewest,
                "most_messages": self._most,
                "assistant_messages_with_weight_0": self._untrained,
                "tool_calls": self._calls,
                "rows_with_tools": self._with_tools,
                "rows_without_system_message": self._without_system,
                "rows_without_user_message": self._without_user,
            }
        return counts
