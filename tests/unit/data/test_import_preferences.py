"""Import of a chosen and a rejected answer, in the forms that public data sets have."""

import json

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.columns import guess
from luthier.data.import_rows import BadRows
from luthier.data.stage import collect
from tests.support.importer import LIMIT


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _says(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _row(*asked: dict[str, str], **more: object) -> dict[str, object]:
    return {"input": {"messages": list(asked), **more}, "preferred_output": [_says("good")], "non_preferred_output": [_says("bad")]}


HH = "\n\nHuman: q\n\nAssistant: a\n\nHuman: And\n\nthen?\n\nAssistant:"
LONG = (_user("q"), _says("a"), _user("And\n\nthen?"))
TOOL = {"name": "f", "description": "d"}
FORMS = {
    "texts": ({"prompt": "q", "chosen": "good", "rejected": "bad"}, _row(_user("q"))),
    "messages": ({"prompt": [_user("q")], "chosen": [_says("good")], "rejected": [_says("bad")]}, _row(_user("q"))),
    "talks": ({"chosen": [*LONG, _says("good")], "rejected": [*LONG, _says("bad")]}, _row(*LONG)),
    "talks and their prompt": (
        {"prompt": "q", "chosen": [_user("q"), _says("good")], "rejected": [_user("q"), _says("bad")]},
        _row(_user("q")),
    ),
    "Anthropic's texts": ({"chosen": f"{HH} good", "rejected": f"{HH} bad"}, _row(*LONG)),
    "Anthropic's texts and their prompt": ({"prompt": HH, "chosen": " good", "rejected": " bad"}, None),
    "one message": (
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        _row(_user("q")),
    ),
    "instruction and input": ({"instruction": "Do", "input": "this", "chosen": "good", "rejected": "bad"}, _row(_user("Do\n\nthis"))),
    "system": ({"system": "s", "question": "q", "chosen": "good", "rejected": "bad"}, _row({"role": "system", "content": "s"}, _user("q"))),
    "tools": (
        {"prompt": "q", "chosen": "good", "rejected": "bad", "tools": json.dumps([TOOL])},
        _row(_user("q"), tools=[{"type": "function", "function": TOOL}]),
    ),
    "OpenAI's": (_row(_user("q"), tools=[{"type": "function", "function": TOOL}]),) * 2,
    "cells of a table": ({"prompt": json.dumps([_user("q")]), "chosen": json.dumps([_says("good")]), "rejected": "bad"}, _row(_user("q"))),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_rows_that_a_preference_job_reads(imports, form):
    given, expected = FORMS[form]
    if expected is None:
        expected = _row(
            *LONG,
        )
        expected["preferred_output"], expected["non_preferred_output"] = [_says(" good")], [_says(" bad")]
    done = imports.run(imports.file("a.json", json.dumps([given] * 10)))
    rows = [json.loads(line) for line in imports.output.read_text().splitlines()]
    assert rows == [expected] * 10
    assert (done.num_rows, done.unused) == (10, {})
    assert len(collect("f", imports.output, role="training", method="dpo", max_line_bytes=LIMIT, sha256="").examples) == 10


def test_columns_beside_the_answers(imports):
    row = {"source": "s", "prompt": "q", "messages": [_user("q"), _says("good")], "chosen": "good", "rejected": "bad", "score": 5}
    imports.run(imports.file("a.json", json.dumps([row])))
    assert imports.notes == [
        "columns: prompt -> prompt, chosen -> chosen, rejected -> rejected; not used: source, messages, score",
        *(f"not used: {column} has a value in 1 row" for column in ("source", "messages", "score")),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "good", "rejected": "bad"}, "it has no prompt"),
        ({"prompt": "q", "chosen": "", "rejected": "bad"}, "'chosen', the chosen answer, is empty."),
        ({"prompt": "q", "chosen": "good"}, "'rejected', the rejected answer, is missing."),
        ({"chosen": [_user("q"), _says("good")], "rejected": [_user("p"), _says("bad")]}, "it has no prompt"),
        ({"prompt": "q", "chosen": [_user("q"), _says("a")], "rejected": [_user("p"), _says("b")]}, "part before their last messages"),
        ({"chosen": [_user("q"), _says("a")], "rejected": [_user("q"), _says("b"), _user("c"), _says("d")]}, "part before their last"),
        (
            {"prompt": "other", "chosen": [_user("q"), _says("good")], "rejected": [_user("q"), _says("bad")]},
            "prompt is not in what they share",
        ),
        ({"chosen": [_user("q"), _user("good")], "rejected": [_user("q"), _says("bad")]}, "must have 'assistant'"),
    ],
)
def test_rows_that_are_no_preferences_are_named(imports, row, words):
    good = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    with pytest.raises(BadRows):
        imports.run(imports.file("a.jsonl", f"{json.dumps(good)}\n{json.dumps(row)}\n"))
    assert imports.notes[1].startswith("line 2: ")
    assert words in imports.notes[1]


def test_the_user_decides_what_the_rows_are(imports):
    columns = ["prompt", "chosen", "rejected"]
    assert guess(columns, {"completion": "chosen"}).columns == {"prompt": "prompt", "completion": "chosen"}
    assert guess(["prompt", "a", "rejected"], {"chosen": "a"}).columns == {"prompt": "prompt", "chosen": "a", "rejected": "rejected"}
    with pytest.raises(InvalidRequest, match="--map rejected=COLUMN"):
        guess(["prompt", "a"], {"chosen": "a"})
    with pytest.raises(InvalidRequest, match="either one completion"):
        guess(columns, {"chosen": "chosen", "completion": "prompt"})


def test_preferences_and_other_rows_do_not_go_into_one_file(imports):
    one = imports.file("a.json", json.dumps([{"prompt": "q", "chosen": "good", "rejected": "bad"}]))
    two = imports.file("b.json", json.dumps([{"prompt": "q", "completion": "a"}]))
    with pytest.raises(InvalidRequest, match="into two files"):
        imports.run(one, two)
    assert not imports.output.exists()
