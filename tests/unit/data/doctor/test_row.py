"""Rows of every format in the doctor's shape."""

from luthier.core.examples import RowFormat
from luthier.data.doctor.row import row_of


def _call(arguments: str) -> dict:
    return {"id": "c1", "type": "function", "function": {"name": "find", "arguments": arguments}}


def test_a_talk_ends_at_its_last_trained_answer():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]},
        {"role": "assistant", "content": "Bye"},
        {"role": "assistant", "content": "Aside", "weight": 0},
    ]
    row = row_of({"messages": messages}, RowFormat.CHAT, 7)
    assert (row.line, row.answer) == (7, "Bye")
    assert row.prompt == "system: Be brief.\nuser: Hi\nassistant: Hello\nuser: And \nuser: now?"
    assert [(text.path, text.role, text.trained) for text in row.texts] == [
        ("messages[0].content", "system", False),
        ("messages[1].content", "user", False),
        ("messages[2].content", "assistant", True),
        ("messages[3].content[0].text", "user", False),
        ("messages[3].content[1].text", "user", False),
        ("messages[4].content", "assistant", True),
        ("messages[5].content", "assistant", False),
    ]


def test_calls_of_tools_are_part_of_the_answer():
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": None, "tool_calls": [_call('{"a": 1}')]}]
    row = row_of({"messages": messages}, RowFormat.CHAT, 1)
    assert row.answer == 'find {"a": 1}'
    assert [(text.path, text.trained) for text in row.texts][1] == ("messages[1].tool_calls[0].function.arguments", True)
    old = {"role": "assistant", "content": "Wait.", "function_call": {"name": "find", "arguments": "{}"}}
    row = row_of({"messages": [messages[0], old]}, RowFormat.CHAT, 1)
    assert row.answer == "Wait.\nfind {}"
    assert row.texts[-1].path == "messages[1].function_call.arguments"


def test_refusals_are_answers():
    for refused in ({"content": None, "refusal": "No."}, {"content": [{"type": "refusal", "refusal": "No."}]}):
        row = row_of({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", **refused}]}, RowFormat.CHAT, 1)
        assert row.answer == row.texts[-1].text == "No."
        assert row.texts[-1].trained


def test_the_other_formats():
    row = row_of({"prompt": "a", "completion": "b"}, RowFormat.PROMPT_COMPLETION, 1)
    assert (row.prompt, row.answer) == ("user: a", "b")
    pair = {
        "input": {"messages": [{"role": "user", "content": "q"}]},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_completion": [{"role": "assistant", "content": "bad"}],
    }
    row = row_of(pair, RowFormat.PREFERENCE, 1)
    assert (row.prompt, row.answer) == ("user: q", "good")
    assert [(text.path, text.trained) for text in row.texts] == [
        ("input.messages[0].content", False),
        ("preferred_output[0].content", True),
        ("non_preferred_completion[0].content", False),
    ]
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    row = row_of({"messages": talk, "reference": 3}, RowFormat.REINFORCEMENT, 1)
    assert (row.prompt, row.answer) == ("user: a\nassistant: b\nuser: c", "")
    assert not any(text.trained for text in row.texts)
