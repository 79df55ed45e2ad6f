"""How a row with a chosen and a rejected answer becomes a preference row.

What it does: answers as texts, as messages, or at the end of two talks that share their beginning; a question as text, as messages,
or left to that beginning; texts whose turns begin with ``Human:`` and ``Assistant:``. What it does not: guess columns (``columns.py``)
or judge the result (``validate.py``). Called by ``import_rows.py``.

Forms: TRL's preference data (https://huggingface.co/docs/trl/dataset_formats#preference), Anthropic's hh-rlhf, LLaMA-Factory's
rankings, and OpenAI's own rows in an array or a table.
"""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import orjson

from luthier.data.columns import ColumnMap, messages_of, put_system, structure_of
from luthier.data.row_cures import cure_messages, text_of
from luthier.data.tool_turns import CannotMap, as_tools

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ \t]?")
"""Where a turn of Anthropic's texts begins."""
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_OUTPUTS = (("chosen", "preferred_output"), ("rejected", "non_preferred_output"))
Talk = list[dict[str, Any]]


def preference_row(row: Mapping[str, Any], mapping: ColumnMap, unused: Counter[str]) -> dict[str, Any]:
    """The preference row that ``row`` says; columns with a value that found no place are counted in ``unused``.

    Raises:
        CannotMap: a column is missing or does not hold what it should, or the two talks part before their last messages.
    """
    columns = mapping.columns
    taken = set(columns.values())
    asked, tools = _question(row, columns, unused)
    talks = [_answer(row, columns[name], name, unused) for name, _ in _OUTPUTS]
    begun = _shared(*talks)
    if begun and not _holds(begun, asked):
        raise CannotMap(f"{columns['chosen']!r} and {columns['rejected']!r} are whole talks, and the prompt is not in what they share.")
    question = begun or asked
    if not question:
        raise CannotMap("it has no prompt: no column of its own, and the two answers share no beginning.")
    if "system" in columns and not put_system(question, row.get(columns["system"])):
        taken.remove(columns["system"])
    if "tools" in columns and row.get(columns["tools"]) not in (None, ""):
        tools = as_tools(structure_of(row[columns["tools"]], columns["tools"]))
    made: dict[str, Any] = {"input": {"messages": question, **({} if tools is None else {"tools": tools})}}
    for (_, key), talk in zip(_OUTPUTS, talks, strict=True):
        made[key] = talk[len(begun) :]
        if len(made[key]) != 1:
            raise CannotMap("the two talks part before their last messages; only the last answer may differ.")
    for column, value in row.items():
        if column not in taken and value not in (None, ""):
            unused[column] += 1
    cure_messages(made)
    return made


def _question(row: Mapping[str, Any], columns: Mapping[str, str], unused: Counter[str]) -> tuple[Talk, object]:
    """The messages of the question, none where there is no column for it, and the tools that OpenAI's ``input`` offers."""
    name = next((name for name in ("messages", "prompt") if name in columns), None)
    value = None if name is None else row.get(columns[name])
    if value in (None, "", []):
        return [], None
    if isinstance(value, dict) and "messages" in value:
        return messages_of(value["messages"], unused), value.get("tools")
    talk = _talk_in(value, "user", unused)
    if talk[-1] == {"role": "assistant", "content": ""}:  # Anthropic's prompts end with the answer's beginning
        talk.pop()
    added = text_of(row.get(columns.get("input", "")))
    if added and len(talk) == 1:
        talk[0]["content"] = f"{talk[0].get('content', '')}\n\n{added}"
    return talk, None


def _answer(row: Mapping[str, Any], column: str, name: str, unused: Counter[str]) -> Talk:
    value = row.get(column)
    if value in (None, "", [], {}):
        raise CannotMap(f"{column!r}, the {name} answer, is {'empty' if column in row else 'missing'}.")
    return _talk_in(value, "assistant", unused)


def _talk_in(value: object, speaker: str, unused: Counter[str]) -> Talk:
    """The messages of a cell: a talk, one message, or a text of ``speaker``'s."""
    if isinstance(value, str) and (talk := _list_in(value)) is not None:
        value = talk
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        return messages_of(value, unused)
    text = text_of(value) or ""
    turns = list(_TURN.finditer(text))
    if not turns or turns[0].start():
        return [{"role": speaker, "content": text}]
    ends = [*(turn.start() for turn in turns[1:]), len(text)]
    return [{"role": _SPEAKERS[turn.group(1)], "content": text[turn.end() : end].strip()} for turn, end in zip(turns, ends, strict=True)]


def _list_in(text: str) -> list[Any] | None:
    """The messages that a cell of a table holds as JSON."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value) else None


def _shared(better: Talk, worse: Talk) -> Talk:
    """The beginning of both talks; the last message of each is its answer, even where both are the same."""
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(better[:-1], worse[:-1], strict=False))
    return [message for message, _ in pairs]


def _holds(talk: Talk, asked: Talk) -> bool:
    """Whether the talk has every message of the question."""
    texts = [text.strip() if isinstance(text := message.get("content"), str) else text for message in talk]
    return all((text.strip() if isinstance(text := message.get("content"), str) else text) in texts for message in asked)
