"""Outliers of length, odd orders of roles, odd system prompts, answers that are all alike or repeat the prompt."""

import pytest

from luthier.core.doctor_report import Weight
from tests.support.doctor_files import chat, clean_rows, codes, examined, found


def test_one_answer_is_far_longer_and_one_far_shorter(tmp_path):
    rows = clean_rows(40)
    rows[7]["messages"][1]["content"] = "word " * 1000
    rows[9]["messages"][1]["content"] = "hm"
    report = examined(tmp_path, rows)
    assert (found(report, "long_answer").lines, found(report, "short_answer").lines) == ((8,), (10,))
    assert "the longest answer has 5,000 characters" in found(report, "long_answer").finding
    assert found(report, "short_answer").examples == ('line 10 (2 characters): "hm"',)


def test_one_prompt_is_a_whole_document(tmp_path):
    rows = clean_rows(40)
    rows[3]["messages"][0]["content"] = "page after page " * 400
    report = examined(tmp_path, rows)
    assert (codes(report), found(report, "long_prompt").lines) == ({"long_prompt"}, (4,))


def test_a_few_rows_have_no_usual_length(tmp_path):
    assert codes(examined(tmp_path, [*clean_rows(15), chat("why?", "because " * 2000)])) == set()


def _roles(*roles: str) -> dict:
    return {"messages": [{"role": role, "content": f"{role} {index} says this"} for index, role in enumerate(roles)]}


@pytest.mark.parametrize(
    ("roles", "code"),
    [
        (("user", "user", "assistant"), "repeated_role"),
        (("user", "assistant", "assistant"), "repeated_role"),
        (("user", "system", "assistant"), "late_system_message"),
        (("user", "assistant", "user"), "trailing_messages"),
        (("system", "assistant", "user", "assistant"), "no_question"),
    ],
)
def test_an_odd_order_of_roles(tmp_path, roles, code):
    rows = [*clean_rows(12), _roles(*roles)]
    report = examined(tmp_path, rows)
    finding = found(report, code)
    assert (finding.count, finding.lines, finding.examples) == (1, (13,), (", ".join(roles),))
    assert len(codes(report)) == 1


def test_calls_of_tools_are_no_odd_order(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    talk = [
        {"role": "user", "content": "where"},
        {"role": "assistant", "content": None, "tool_calls": [call, {**call, "id": "c2"}]},
        {"role": "tool", "tool_call_id": "c1", "content": "here"},
        {"role": "tool", "tool_call_id": "c2", "content": "there"},
        {"role": "assistant", "content": "here and there"},
    ]
    assert codes(examined(tmp_path, [*clean_rows(15), {"messages": talk}])) == set()


def test_prompts_of_preferences_end_without_an_answer(tmp_path):
    outputs = {"preferred_output": [{"role": "assistant", "content": "a"}], "non_preferred_output": [{"role": "assistant", "content": "b"}]}
    row = {"input": _roles("user", "assistant", "user"), **outputs}
    assert "trailing_messages" not in codes(examined(tmp_path, [row] * 10))


def test_a_system_prompt_that_differs_in_two_rows(tmp_path):
    texts = [[message["content"] for message in row["messages"]] for row in clean_rows(40)]
    rows = [chat(*text, system="Be kind.") for text in texts]
    rows[4] = chat(*texts[4], system="Be kind")
    rows[5] = chat(*texts[5])
    report = examined(tmp_path, rows)
    finding = found(report, "system_prompt_differs")
    assert (finding.count, finding.lines) == (2, (5, 6))
    assert finding.finding == "95 % of the rows have one and the same system prompt; 2 rows differ, 1 of them without any."
    assert finding.examples == ('usual (line 1): "Be kind."', 'line 5: "Be kind"')


def test_system_prompts_that_all_differ_are_no_slip(tmp_path):
    rows = [chat(f"q {i}", f"a {i}", system=f"You are number {i}.") for i in range(30)]
    assert "system_prompt_differs" not in codes(examined(tmp_path, rows))


def test_one_answer_for_nearly_all_rows(tmp_path):
    rows = [chat(row["messages"][0]["content"], "I cannot say.") for row in clean_rows(38)]
    report = examined(tmp_path, [*rows, *clean_rows(2, seed=1)])
    finding = found(report, "constant_answer")
    assert (finding.count, finding.weight, finding.examples) == (38, Weight.SERIOUS, ('"I cannot say."',))
    assert "the others have 2 different ones" in finding.finding


def test_one_answer_for_many_rows(tmp_path):
    rows = [chat(row["messages"][0]["content"], "Sorry, no.") for row in clean_rows(12)]
    report = examined(tmp_path, [*rows, *clean_rows(60, seed=1)])
    assert (found(report, "frequent_answer").count, found(report, "frequent_answer").weight) == (12, Weight.WORTH_A_LOOK)


def test_answers_that_repeat_the_question(tmp_path):
    rows = [
        *clean_rows(30),
        chat("Say  Hello to me", "say hello to me"),
        chat("Two plus two?", "Two plus two? Four."),
        chat("Two", "Tworow"),
    ]
    finding = found(examined(tmp_path, rows[:-1]), "answer_repeats_prompt")
    assert (finding.count, finding.lines) == (2, (31, 32))
    assert finding.finding.endswith("in 1 of them it says nothing else.")
