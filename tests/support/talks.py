"""Random conversations that a template family can write, for property tests of the renderer."""

import json
from typing import Any

from hypothesis import strategies as st

from luthier.core.conversation import Conversation, conversation_of
from tests.support.template_families import Family

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
        },
    },
    {"type": "function", "function": {"name": "f", "description": "é?", "parameters": {"type": "object", "properties": {}}}},
]
_PIECES = [
    "hello",
    "water",
    "Bonjour",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    ".",
    "?!",
    "é",
    "ça",
    "🙂",
    "日本",
    "1",
    "23",
    "'s",
    '"',
    "{",
    "}",
    "<",
    ">",
    "|",
    "\\",
]
_ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "days", "é", "a b"]),
    st.one_of(
        st.integers(-9, 10**6), st.booleans(), st.none(), st.text('ab é🙂"\\{}\n<', max_size=6), st.lists(st.integers(0, 9), max_size=2)
    ),
    max_size=3,
)


def texts(extra: tuple[str, ...] = ()) -> st.SearchStrategy[str]:
    """Contents that are not blank; ``extra`` pieces, such as special marks, are strewn in."""
    pieces = st.sampled_from(_PIECES) if not extra else st.one_of(st.sampled_from(_PIECES), st.sampled_from(extra))
    return st.lists(pieces, min_size=1, max_size=7).map("".join).filter(lambda t: t.strip() != "")


@st.composite
def _calls(draw: st.DrawFn, family: Family) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 2)) if family.parallel_calls else 1
    calls = []
    for i in range(count):
        arguments = json.dumps(draw(_ARGUMENTS), ensure_ascii=False)
        name = draw(st.sampled_from(["get_weather", "f"]))
        calls.append({"id": f"callABCD{i}", "type": "function", "function": {"name": name, "arguments": arguments}})
    return calls


@st.composite
def talks(draw: st.DrawFn, family: Family, *, extra: tuple[str, ...] = (), weights: bool = True) -> Conversation:
    """System text or none, one to three questions and answers, tool calls with their results where the family has them, weights."""
    contents = texts(extra)
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(contents)}] if draw(st.booleans()) else []
    with_tools = family.tools and draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(contents)})
        if with_tools and draw(st.booleans()):
            said = draw(st.one_of(st.just(""), contents)) if family.text_with_calls else ""
            calls = draw(_calls(family))
            messages.append({"role": "assistant", "content": said, "tool_calls": calls})
            messages += [{"role": "tool", "tool_call_id": call["id"], "content": draw(contents)} for call in calls]
        messages.append({"role": "assistant", "content": draw(contents)})
    for message in messages:
        if weights and message["role"] == "assistant":
            message["weight"] = draw(st.sampled_from([0, 1, 1]))
    return conversation_of(messages, TOOLS if with_tools else None)
