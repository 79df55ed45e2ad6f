"""Import: what becomes a row, what is named instead, and that nothing half-done stays."""

import gzip
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.data.columns import guess
from luthier.data.import_rows import BadRows
from luthier.data.source_files import download
from tests.support.importer import pair


def test_a_table_with_quotes_line_ends_and_a_mark_before_it(imports):
    source = imports.file("a.csv", '\ufeffid,question,answer\r\n1,"a, ""b""","x\ny"\r\n\r\n2,\u2028c,é\r\n')
    assert imports.run(source).num_rows == 2
    assert imports.talks() == [pair('a, "b"', "x\ny"), pair("\u2028c", "é")]
    assert imports.notes[0] == "columns: question -> prompt, answer -> completion; not used: id"
    assert "not used: id has a value in 2 rows" in imports.notes


def test_a_table_with_semicolons_and_one_in_another_encoding(imports):
    imports.run(imports.file("a.csv", "text;label\na, b;1,5\n"))
    assert imports.talks() == [pair("a, b", "1,5")]
    imports.output.unlink()
    for content in ("text,label\na,b\n".encode("utf-16"), "frage,réponse\na,b\n".encode("latin-1")):
        with pytest.raises(InvalidRequest, match="is not UTF-8"):
            imports.run(imports.file("b.csv", content))
    with pytest.raises(BadRows):
        imports.run(imports.file("c.csv", "text,label\nok,ok\ncafé,b\n".encode("latin-1")))
    assert imports.notes[-1] == "line 3: it is not UTF-8."
    with pytest.raises(InvalidRequest, match="must name every column, each once"):
        imports.run(imports.file("d.csv", "text,text\na,b\n"))


def test_columns_are_those_of_the_first_row_that_has_some_however_late_it_comes(imports):
    source = imports.file("a.jsonl", "{\n" * 120 + '{"question": "q", "answer": "a"}\n')
    done = imports.run(source, skip_bad=True)
    assert (done.num_rows, done.num_bad) == (1, 120)
    assert imports.talks() == [pair("q", "a")]
    assert imports.notes[0] == "columns: question -> prompt, answer -> completion"


def test_the_users_mapping_wins_over_the_guess(imports):
    source = imports.file("a.tsv", "question\tanswer\tgold\nq\tbad\tgood\n")
    imports.run(source, completion="gold")
    assert imports.talks() == [pair("q", "good")]
    assert imports.notes[0] == "columns: question -> prompt, gold -> completion; not used: answer"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"answer": "b"}, "nothing that a column can be"),
        ({"prompt": "c"}, "no column 'c'"),
        ({"messages": "a", "prompt": "b"}, "whole talk"),
    ],
)
def test_a_mapping_that_cannot_be(said, words):
    with pytest.raises(InvalidRequest, match=words):
        guess(["a", "b"], said)


def test_columns_without_a_guess_are_asked_for(imports):
    with pytest.raises(InvalidRequest, match="--map prompt=COLUMN --map completion=COLUMN"):
        imports.run(imports.file("a.csv", "left,right\n1,2\n"))
    assert not imports.output.exists()


def test_alpaca_rows_with_and_without_input(imports):
    rows = [
        {"instruction": "Do", "input": "this", "output": "done"},
        {"instruction": "Go", "output": 7},
        {"instruction": "x", "output": [1]},
    ]
    imports.run(imports.file("a.json", json.dumps(rows)))
    assert imports.talks() == [pair("Do\n\nthis", "done"), pair("Go", "7"), pair("x", "[1]")]


def test_bad_rows_are_named_with_their_line_and_nothing_is_written(imports):
    source = imports.file("a.csv", 'prompt,completion\n"two\nlines",x\nq,\nq,a,more\nok,yes\n')
    with pytest.raises(BadRows, match="2 of 4 rows cannot be mapped; nothing was written"):
        imports.run(source)
    assert imports.notes[1:] == ["line 4: 'completion', the completion, is empty.", "line 5: it has 3 cells, and there are 2 columns."]
    assert [p.name for p in imports.folder.iterdir()] == ["a.csv"]
    done = imports.run(source, skip_bad=True)
    assert (done.num_rows, done.num_bad) == (2, 2)


def test_bad_json_lines_are_named_among_good_ones(imports):
    good = '{"prompt": "a", "completion": "b"}'
    lines = ["{nope", good, "[]", '{"prompt": 1, "completion": NaN}', '{"prompt": "' + "x" * 200 + '"}', '{"other": 1}']
    with pytest.raises(BadRows):
        imports.run(imports.file("a.jsonl", "\n".join(lines)), limit=100)
    assert [note.partition(":")[0] for note in imports.notes[1:6]] == ["line 1", "line 3", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"prompt": "a", "completion": "b"},\n{"prompt": "a"\n]', 3),
        ('[{"prompt": "a", "completion": "b"}\n\n{"prompt": "c", "completion": "d"}]', 1),
        ('[{"prompt": "a", "completion": "b"},\n 5]', 2),
        ('[{"prompt": "a", "completion": "b"},\n{"prompt": "\\ud800", "completion": "d"}]', 2),
        ('[{"prompt": "a", "completion": "b"},\n' + "[" * 100_000, 2),
        ('[{"prompt": "a", "completion": "b"}]\n[]', 1),
        ('[{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": NaN}]', 1),
    ],
)
def test_a_broken_array_is_named_at_its_line(imports, text, line):
    with pytest.raises(BadRows):
        imports.run(imports.file("a.json", text))
    assert [note.partition(":")[0] for note in imports.notes[1:]] == [f"line {line}"]


ROWS = '[{"prompt": "a", "completion": "b"},\n{"prompt": "c"}]'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"data": {ROWS}}}',
        f'{{"version": "1", "ids": [1, 2],\n"train": {ROWS}, "none": []}}',
        f'\ufeff\n{{"meta": {{"rows": [{{}}]}}, "rows":{ROWS}\n}}\n',
    ],
)
def test_an_array_inside_an_object_is_found_and_its_lines_are_the_files(imports, text):
    done = imports.run(imports.file("a.json", text), skip_bad=True)
    assert (done.num_rows, imports.talks()) == (1, [pair("a", "b")])
    line = text.removeprefix("\ufeff").split('{"prompt": "c"')[0].count("\n") + 1
    assert imports.notes[1] == f"line {line}: 'completion', the completion, is missing."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{{"train": {ROWS}, "test": {ROWS}}}', r"several lists of rows: train, test. Take one out: jq -c '.train\[\]' a.json"),
        ('{"a": 1,\n"b": [1], "c": {}}', "without a list of rows; its keys are: a, b, c."),
        ('{\n"data": [{"prompt": "a"', "not valid JSON"),
    ],
)
def test_an_object_that_does_not_say_where_its_rows_are(imports, text, words):
    with pytest.raises(InvalidRequest, match=words):
        imports.run(imports.file("a.json", text))


def test_json_lines_in_a_json_file_stay_lines(imports):
    row = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}'
    for text in (row, f"{row}\n{row}\n"):
        imports.run(imports.file("a.json", text))
        assert set(map(tuple, imports.talks())) == {tuple(pair("q", "a"))}
        imports.output.unlink()


def test_a_row_that_would_be_too_long_a_line_is_named(imports):
    with pytest.raises(BadRows):
        imports.run(imports.file("a.json", json.dumps([{"prompt": "a" * 50, "completion": "b" * 50}])), limit=150)
    assert imports.notes[1] == "line 1: it would be a line of 177 bytes; the maximum is 150."


def test_a_row_that_no_job_takes_is_a_bad_row(imports):
    with pytest.raises(BadRows):
        imports.run(imports.file("a.jsonl", '{"messages": [{"role": "wizard", "content": "hm"}]}\n'))
    assert imports.notes[1].startswith("line 1: message 1 Discriminator 'role' has the value \"wizard\"")


def test_a_folder_of_texts(imports):
    imports.file("t/a.prompt.txt", "Question\n")
    imports.file("t/a.completion.txt", "Answer\n")
    imports.file("t/b.txt", "System: s\nHuman: h\nmore: h\nAI: a\n")
    imports.file("t/c.txt", "no turn")
    imports.file("t/d.prompt.txt", "alone")
    imports.file("t/e.completion.txt", "alone")
    imports.run(str(imports.folder / "t"), skip_bad=True)
    assert imports.talks() == [pair("Question", "Answer"), [("system", "s"), ("user", "h\nmore: h"), ("assistant", "a")]]
    assert [note.partition(":")[0] for note in imports.notes[1:]] == ["c.txt", "d.prompt.txt", "e.completion.txt"]


def test_a_folder_of_data_files_goes_by_their_names(imports):
    imports.file("t/b.csv", "prompt,completion\n1,2\n,x\n")
    imports.file("t/a.jsonl", '{"prompt": "0", "completion": "1"}\n')
    imports.run(str(imports.folder / "t"), skip_bad=True)
    assert imports.talks() == [pair("0", "1"), pair("1", "2")]
    assert "b.csv, line 3: 'prompt', the prompt, is empty." in imports.notes


def test_a_hub_data_set_gives_its_training_files(imports):
    imports.file("hub/data/train-0.jsonl", '{"prompt": "a", "completion": "b"}\n')
    imports.file("hub/data/test-0.jsonl", '{"prompt": "c", "completion": "d"}\n')
    asked = []

    def fetch(name: str, revision: str | None) -> Path:
        asked.append((name, revision))
        return imports.folder / "hub"

    imports.run("hf://some/set@v1", fetch=fetch)
    assert imports.talks() == [pair("a", "b")]
    assert asked == [("some/set", "v1")]
    assert "Left out: data/test-0.jsonl" in imports.notes[0]
    imports.output.unlink()
    imports.run("hf://datasets/some/set/data/test-0.jsonl", fetch=fetch)
    assert imports.talks() == [pair("c", "d")]
    for wrong in ("hf://set", "hf://some/set/../../x", "hf://some/set//etc/passwd", "hf://some/set/none.csv"):
        imports.output.unlink(missing_ok=True)
        with pytest.raises(InvalidRequest):
            imports.run(wrong, fetch=fetch)


def test_the_hub_is_asked_for_data_files_only_and_its_refusal_is_a_sentence(monkeypatch, tmp_path):
    asked = {}
    hub = ModuleType("huggingface_hub")

    def snapshot(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    hub.snapshot_download = snapshot  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert download("a/b", "r") == tmp_path
    assert asked["name"] == "a/b"
    assert asked["repo_type"] == "dataset"
    assert "*.parquet" in asked["allow_patterns"]

    def refuse(name, **options):
        raise OSError("no such data set\nand much more")

    hub.snapshot_download = refuse  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match=r"a/b could not be fetched: no such data set$"):
        download("a/b", None)


def test_without_a_library_a_clear_sentence(imports, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidRequest, match=r"pyarrow is missing. Install it with: pip install 'luthier\[data\]'"):
        imports.run(imports.file("a.parquet", b"PAR1"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InvalidRequest, match="huggingface_hub is needed"):
        download("a/b", None)


def test_a_quote_that_is_not_closed_is_told(imports):
    with pytest.raises(BadRows):
        imports.run(imports.file("a.csv", 'question,answer\n"open,b\nc,d\ne,f\n'))
    told = "line 2: it has 1 cell, and there are 2 columns. It goes on to line 4: a quote in it is perhaps not closed."
    assert imports.notes == [told]


@pytest.mark.parametrize("name", ["none.csv", "a.docx"])
def test_a_source_that_is_not_there_or_not_known(imports, name):
    imports.file("a.docx", "x")
    with pytest.raises(InvalidRequest):
        imports.run(str(imports.folder / name))


@pytest.mark.parametrize(("name", "cure"), [("a.csv", "gunzip"), ("a.jsonl.gz", "gunzip"), ("b.jsonl", "luthier data import")])
def test_a_compressed_source_is_told_so(imports, name, cure):
    content = b"PAR1" + b"\x00" * 20 if name == "b.jsonl" else gzip.compress(b'{"prompt": "a", "completion": "b"}\n')
    with pytest.raises(InvalidRequest, match=f"is compressed or packed .*nothing is unpacked here. Unpack it first .*{cure}"):
        imports.run(imports.file(name, content))


def test_nothing_is_ever_overwritten(imports):
    imports.file("out.jsonl", "mine")
    with pytest.raises(InvalidRequest, match="exists already"):
        imports.run(imports.file("a.csv", "prompt,completion\n1,2\n"))
    assert imports.output.read_text() == "mine"


def test_two_sources_each_with_its_own_columns(imports):
    one = imports.file("a.csv", "q,a\n1,2\n".replace("q,a", "question,answer"))
    two = imports.file("b.csv", "text,label\n3,4\n")
    assert imports.run(one, two).num_rows == 2
    assert imports.talks() == [pair("1", "2"), pair("3", "4")]
    assert imports.notes == [
        f"{one}: columns: question -> prompt, answer -> completion",
        f"{two}: columns: text -> prompt, label -> completion",
    ]
