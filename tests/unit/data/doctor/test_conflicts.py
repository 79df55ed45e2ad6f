"""The same prompt answered differently; preferences against each other; one prompt for all rows."""

from luthier.core.doctor_report import Weight
from tests.support.doctor_files import chat, clean_rows, codes, examined, found


def test_one_prompt_with_two_answers(tmp_path):
    rows = [*clean_rows(30), chat("Capital of France?", "Paris"), chat("capital of  france?", "Lyon"), chat("Capital of Italy?", "Rome")]
    report = examined(tmp_path, [*rows, chat("Capital of Italy?", "Milan"), chat("Capital of Spain?", "Madrid")])
    finding = found(report, "conflicting_answers")
    assert (finding.count, finding.lines, finding.weight) == (4, (31, 32, 33, 34), Weight.WORTH_A_LOOK)
    assert "share 2 prompts and answer differently (1 of the prompts: case and spaces aside)." in finding.finding
    assert finding.examples[0] == '"Capital of France?" line 31: "Paris", line 32: "Lyon"'


def test_the_same_answer_in_another_case_is_no_conflict(tmp_path):
    report = examined(tmp_path, [*clean_rows(30), chat("Capital of France?", "Paris"), chat("Capital of France?", "PARIS ")])
    assert "conflicting_answers" not in codes(report)


def test_another_system_prompt_is_another_prompt(tmp_path):
    rows = [chat("Greet me", "Hi", system="Speak English."), chat("Greet me", "Salut", system="Speak French.")]
    assert "conflicting_answers" not in codes(examined(tmp_path, [*clean_rows(30), *rows]))


def test_an_empty_prompt_asks_nothing(tmp_path):
    rows = [{"prompt": f"say {i}", "completion": f"it is the {i}th"} for i in range(30)]
    report = examined(tmp_path, [*rows, {"prompt": "", "completion": "one"}, {"prompt": "", "completion": "two"}])
    assert "conflicting_answers" not in codes(report)


def test_conflicting_labels_are_serious(tmp_path):
    rows = [chat(row["messages"][0]["content"], "yes" if i % 2 else "no") for i, row in enumerate(clean_rows(40))]
    report = examined(tmp_path, [*rows, chat(rows[0]["messages"][0]["content"], "yes")])
    assert (found(report, "conflicting_answers").weight, found(report, "conflicting_answers").lines) == (Weight.SERIOUS, (1, 41))


def test_one_prompt_for_most_rows_is_told_apart(tmp_path):
    rows = [chat("Write a review.", row["messages"][1]["content"]) for row in clean_rows(30)]
    report = examined(tmp_path, [*rows, *clean_rows(10, seed=1)])
    finding = found(report, "constant_prompt")
    assert (finding.count, finding.weight, finding.examples) == (30, Weight.SERIOUS, ('"Write a review."',))
    assert "30 different answers" in finding.finding
    assert "conflicting_answers" not in codes(report)


def _preference(question: str, good: str, bad: str) -> dict:
    outputs = {name: [{"role": "assistant", "content": text}] for name, text in (("preferred_output", good), ("non_preferred_output", bad))}
    return {"input": {"messages": [{"role": "user", "content": question}]}, **outputs}


def test_preferences_that_contradict_each_other(tmp_path):
    rows = [_preference(*(text["content"] for text in row["messages"]), bad=f"bad {i}") for i, row in enumerate(clean_rows(30))]
    rows += [_preference("tea?", "yes please", "no"), _preference("Tea?", "no", "yes please"), _preference("tea?", "yes please", "never")]
    report = examined(tmp_path, rows)
    finding = found(report, "contradictory_preference")
    assert (finding.count, finding.lines, finding.weight) == (2, (31, 32), Weight.SERIOUS)
    assert report.row_format == "preference"
    assert "conflicting_answers" not in codes(report)
