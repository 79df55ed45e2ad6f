"""Which column holds what, and how a row of a table or of another tool becomes a chat row.

What it does: guesses the columns from their names, takes what the user says instead, and makes ``messages`` of a question and
an answer, of Alpaca rows and of ShareGPT conversations. What it does not: read files (``sources.py``), make preference rows
(``preference_columns.py``) or judge the result (``validate.py``). Called by ``import_rows.py``.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from luthier.core.errors import InvalidRequest
from luthier.data.role_names import role_of
from luthier.data.row_cures import cure_messages, text_of
from luthier.data.tool_turns import CannotMap, as_tools, with_tool_messages

FIELDS = ("messages", "prompt", "completion", "chosen", "rejected", "system", "input", "tools")
"""What a column can be: ``input`` is text that follows the prompt, as in Alpaca rows; a chosen and a rejected answer make preferences."""
_NAMES: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat"),
    "prompt": (
        *("prompt", "instruction", "question", "query", "user", "user_message", "request", "problem", "input_text"),
        *("source", "text", "sentence", "input"),
    ),
    "completion": (
        *("completion", "answer", "response", "output", "assistant", "assistant_message", "reply", "solution"),
        *("target", "target_text", "label", "category", "intent", "sentiment"),
    ),
    "chosen": ("chosen", "chosen_response", "preferred", "preferred_output", "preferred_completion"),
    "rejected": ("rejected", "rejected_response", "non_preferred", "non_preferred_output", "non_preferred_completion"),
    "system": ("system", "system_prompt", "system_message"),
    "input": ("input", "context"),
    "tools": ("tools",),
}
_OF_PREFERENCES = frozenset({"source", "text", "sentence"})
"""Prompts elsewhere; beside a chosen and a rejected answer they say where a row comes from."""
_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "text")
_MESSAGE_KEYS = ("name", "weight", "tool_calls", "function_call", "refusal", "tool_call_id")
_ROW_KEYS = ("tools", "functions", "parallel_tool_calls")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Field -> column."""

    columns: Mapping[str, str]

    def describe(self, present: Iterable[str]) -> str:
        """The mapping in one line, with the columns that stay unused."""
        used = ", ".join(f"{column} -> {name}" for name, column in self.columns.items())
        rest = [column for column in present if column not in self.columns.values() and not self._kept(column)]
        return used + (f"; not used: {', '.join(rest)}" if rest else "")

    @property
    def are_preferences(self) -> bool:
        """Whether the rows compare two answers."""
        return "chosen" in self.columns

    def _kept(self, column: str) -> bool:
        return "messages" in self.columns and not self.are_preferences and column in _ROW_KEYS


def guess(present: Iterable[str], said: Mapping[str, str]) -> ColumnMap:
    """The mapping for a file with these columns.

    Args:
        present: the names of the columns.
        said: field -> column, as the user gave it; an empty column leaves an optional field out.

    Raises:
        InvalidRequest: a field or a column that does not exist, or nothing that looks like a prompt and a completion.
    """
    columns = list(present)
    for name, column in said.items():
        if name not in FIELDS:
            raise InvalidRequest(f"{name!r} is nothing that a column can be. It can be: {', '.join(FIELDS)}.")
        if column and column not in columns:
            raise InvalidRequest(f"There is no column {column!r}. There are: {_shown(columns)}.")
    found = {name: column for name, column in said.items() if column}
    if _compares(found, said, columns):
        return _of_preferences(found, said, columns)
    if "messages" in found and not {"prompt", "completion", "input"}.isdisjoint(found):
        raise InvalidRequest("A column of messages is the whole talk: map it alone, or with 'system' and 'tools'.")
    if "messages" not in said and {"prompt", "completion"}.isdisjoint(said):
        _add(found, "messages", columns)
    if "messages" not in found:
        _add(found, "completion", columns)
        _add(found, "prompt", columns)
        missing = [name for name in ("prompt", "completion") if name not in found]
        if missing:
            raise InvalidRequest(
                f"No column looks like the {' or the '.join(missing)} (there are: {_shown(columns)}). "
                f"Say which it is with {' '.join(f'--map {name}=COLUMN' for name in missing)}."
            )
        if "input" not in said:
            _add(found, "input", columns)
    for name in ("system", "tools"):
        if name not in said:
            _add(found, name, columns)
    return ColumnMap({name: found[name] for name in FIELDS if name in found})


def _compares(found: dict[str, str], said: Mapping[str, str], columns: list[str]) -> bool:
    """Whether the rows are preferences: both answers are there, and the user did not map a single one; both are added to ``found``."""
    if not {"chosen", "rejected"}.isdisjoint(found):
        _add(found, "chosen", columns)
        _add(found, "rejected", columns)
        missing = [name for name in ("chosen", "rejected") if name not in found]
        if missing:
            raise InvalidRequest(
                f"A chosen and a rejected answer go together: say which column is the other with --map {missing[0]}=COLUMN."
            )
        if "completion" in found:
            raise InvalidRequest("A row holds either one completion, or a chosen and a rejected answer.")
        return True
    if not {"completion", "messages", "chosen", "rejected"}.isdisjoint(said):
        return False
    guessed = dict(found)
    _add(guessed, "chosen", columns)
    _add(guessed, "rejected", columns)
    if "chosen" not in guessed or "rejected" not in guessed:
        return False
    found.update(guessed)
    return True


def _of_preferences(found: dict[str, str], said: Mapping[str, str], columns: list[str]) -> ColumnMap:
    """Preferences need no prompt where both answers are whole talks."""
    if "prompt" not in said and "messages" not in found:
        _add(found, "prompt", [column for column in columns if column.strip().lower() not in _OF_PREFERENCES])
    if "prompt" not in found and "messages" not in said:
        _add(found, "messages", columns)
    for name in ("input", "system", "tools"):
        if name not in said and (name != "input" or "prompt" in found):
            _add(found, name, columns)
    return ColumnMap({name: found[name] for name in FIELDS if name in found})


def _add(found: dict[str, str], name: str, columns: list[str]) -> None:
    if name in found:
        return
    plain = {column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)}
    free = (plain[known] for known in _NAMES[name] if known in plain and plain[known] not in found.values())
    if (column := next(free, None)) is not None:
        found[name] = column


def _shown(columns: list[str]) -> str:
    return ", ".join(columns[:20]) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "") or "none"


def chat_row(row: Mapping[str, Any], mapping: ColumnMap, unused: Counter[str]) -> dict[str, Any]:
    """The chat row that ``row`` says; columns with a value that found no place are counted in ``unused``.

    Raises:
        CannotMap: a column is missing, or does not hold what it should.
    """
    columns = mapping.columns
    made: dict[str, Any] = {}
    taken = set(columns.values())
    if "messages" in columns:
        made["messages"] = messages_of(_value(row, columns["messages"]), unused)
        if "system" in columns and not put_system(made["messages"], row.get(columns["system"])):
            taken.remove(columns["system"])
        for key in _ROW_KEYS:
            if row.get(key) not in (None, "") and key not in columns:
                value = structure_of(row[key], key)
                made[key] = as_tools(value) if key == "tools" else value
                taken.add(key)
                if made[key] is None:
                    del made[key]
    else:
        made["messages"] = _question_and_answer(row, columns)
    if "tools" in columns and row.get(columns["tools"]) not in (None, ""):
        made["tools"] = as_tools(structure_of(row[columns["tools"]], columns["tools"]))
        if made["tools"] is None:
            del made["tools"]
    for column, value in row.items():
        if column not in taken and value not in (None, ""):
            unused[column] += 1
    cure_messages(made)
    return made


def _question_and_answer(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    texts = {name: text_of(row.get(column)) for name, column in columns.items()}
    for name in ("prompt", "completion"):
        if not texts[name]:
            raise CannotMap(f"{columns[name]!r}, the {name}, is {'empty' if columns[name] in row else 'missing'}.")
    question = texts["prompt"] or ""
    if texts.get("input"):
        question = f"{question}\n\n{texts['input']}"
    system = [{"role": "system", "content": texts["system"]}] if texts.get("system") else []
    return [*system, {"role": "user", "content": question}, {"role": "assistant", "content": texts["completion"]}]


def messages_of(value: object, unused: Counter[str]) -> list[dict[str, Any]]:
    """The messages of a talk, or of its JSON in a cell, in the API's form but for the names of roles.

    Raises:
        CannotMap: it is no list of messages.
    """
    if isinstance(value, str):
        value = structure_of(value, "messages")
    if not isinstance(value, list) or not value:
        raise CannotMap("the messages are not a list of at least one message.")
    return with_tool_messages([_message(number, plain, unused) for number, plain in enumerate(value, start=1)], unused)


def put_system(messages: list[dict[str, Any]], value: object) -> bool:
    """Begin the talk with the system message of a column of its own; False where the talk has another one."""
    text = text_of(value)
    if not text:
        return True
    if role_of(str(messages[0]["role"])) not in ("system", "developer"):
        messages.insert(0, {"role": "system", "content": text})
        return True
    return messages[0].get("content") == text


def _message(number: int, plain: object, unused: Counter[str]) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise CannotMap(f"message {number} is not an object.")
    role_key = next((key for key in _ROLE_KEYS if plain.get(key) is not None), None)
    if role_key is None:
        raise CannotMap(f"message {number} has no role.")
    content_key = next((key for key in _CONTENT_KEYS if plain.get(key) is not None), None)
    made: dict[str, Any] = {"role": plain[role_key]}
    if content_key is not None:
        made["content"] = plain[content_key]
    for key, value in plain.items():
        if value is None or key in (role_key, content_key):
            continue
        if key in _MESSAGE_KEYS:
            made[key] = value
        else:
            unused[f"{key} (of messages)"] += 1
    return made


def _value(row: Mapping[str, Any], column: str) -> object:
    if row.get(column) is None:
        raise CannotMap(f"{column!r}, the messages, is {'empty' if column in row else 'missing'}.")
    return row[column]


def structure_of(value: object, column: str) -> object:
    """A list or an object as it is, or from its JSON in a cell.

    Raises:
        CannotMap: the cell holds no JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise CannotMap(f"{column!r} is not valid JSON: {error.msg}.") from error
