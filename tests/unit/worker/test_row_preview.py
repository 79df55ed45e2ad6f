"""Lines of a file as tokens of the embedded base: committed pages for each kind of row, and hostile rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from luthier.cli.render.row_tokens import page
from luthier.core.errors import InvalidRequest
from luthier.core.specs import Decision
from luthier.data.validate import Method
from luthier.worker.row_preview import Reader, load_reader, preview_lines
from tests.support.template_families import renderer_of
from tests.support.tiny_models import mini_folder, tokenizer_folder

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "row_tokens"
METHODS: dict[str, Method] = {"preference": "dpo", "reinforcement": "reinforcement"}
CAP = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load_reader(mini_folder(), asked_length=None)


def _rows(path: Path, numbers: list[int], reader: Reader, method: Method | None = None) -> list[dict[str, Any]]:
    return list(preview_lines(path, numbers, reader, method=method, max_line_bytes=CAP))


def _page(row: dict[str, Any], *, every: bool = False, ids: bool = False) -> str:
    """As a file sees it: no colour, 100 characters wide."""
    console = Console(width=100, highlight=False, force_terminal=False)
    with console.capture() as captured:
        for part in page(json.loads(json.dumps(row)), {"name": "luthier-mini"}, every=every, ids=ids):
            console.print(part)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def shown(name: str, reader: Reader, folder: Path = GOLDEN) -> str:
    """The page of a golden row: whole, cut at 12 tokens, and token by token."""
    (row,) = _rows(folder / f"{name}.jsonl", [1], reader, METHODS.get(name))
    short = load_reader(mini_folder(), asked_length=12)
    (cut,) = _rows(folder / f"{name}.jsonl", [1], short, METHODS.get(name))
    return _page(row) + "\n=== at most 12 tokens ===\n" + _page(cut) + "\n=== one by one ===\n" + _page(row, ids=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.jsonl")))
def test_the_page_is_the_committed_one(name: str, reader: Reader) -> None:
    assert shown(name, reader) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


def test_no_page_holds_what_a_terminal_obeys(reader: Reader) -> None:
    text = shown("hostile", reader)
    assert all(mark.isprintable() or mark == "\n" for mark in text)
    for sign in ("\\x1b", "\\x00", "\\u202e", "\\u200b", "\\xa0", "⇥", "␍", "⏎", "[bold]"):
        assert sign in text.replace("│", ""), sign


def test_parts_of_a_character_are_shown_as_bytes_or_together(reader: Reader) -> None:
    (row,) = _rows(GOLDEN / "hostile.jsonl", [1], reader)
    parts = [token for token in row["sequences"][0]["tokens"] if "\ufffd" in token["text"]]
    listed = _page(row, ids=True)
    for token in parts:
        assert "".join(f"\\x{byte:02x}" for byte in token["bytes"]) in listed
    assert {"😀⁴", "\\u202e²"} <= set(_page(row).replace("│", " ").split())


def test_a_faulty_row_has_findings_with_column_and_cure_and_no_tokens(reader: Reader) -> None:
    (row,) = _rows(GOLDEN / "faulty.jsonl", [1], reader)
    (finding,) = row["findings"]
    line = (GOLDEN / "faulty.jsonl").read_bytes()
    assert line[finding["column"] - 1 :].startswith(b'"bot"')
    assert (row["ok"], row["sequences"], finding["path"]) == (False, [], "messages[1].role")
    assert finding["cure"] in " ".join(_page(row).split())


def test_a_long_row_is_shown_by_its_ends_unless_all_of_it_is_asked_for(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "long.jsonl"
    said = [{"role": "user", "content": "a b " * 6000}, {"role": "assistant", "content": "end"}]
    path.write_text(json.dumps({"messages": said}) + "\n")
    (row,) = _rows(path, [1], load_reader(mini_folder(), asked_length=400))
    assert len(row["sequences"][0]["tokens"]) > 10_000
    assert len(_page(row)) < 6_000
    assert len(_page(row, ids=True)) < 40_000
    assert len(_page(row, every=True)) > 20_000
    assert "nothing_trained" in {problem["code"] for problem in row["problems"]}


def _nested(depth: int) -> str:
    return '{"a": ' * depth + "1" + "}" * depth


def test_deep_tools_and_deep_reference_data_end_in_a_sentence(tmp_path: Path, reader: Reader) -> None:
    said = '{"role": "user", "content": "q"}'
    tools = f'[{{"type": "function", "function": {{"name": "f", "parameters": {_nested(1005)}}}}}]'
    path = tmp_path / "deep.jsonl"
    path.write_text(f'{{"messages": [{said}, {{"role": "assistant", "content": "a"}}], "tools": {tools}}}\n')
    (row,) = _rows(path, [1], reader)
    assert (row["ok"], [p["code"] for p in row["problems"]]) == (False, ["template_refuses"])
    path.write_text(f'{{"messages": [{said}], "reference": {_nested(1000)}}}\n')
    (row,) = _rows(path, [1], reader, "reinforcement")
    assert (row["ok"], row["reference"], [p["code"] for p in row["problems"]]) == (True, None, ["reference_not_shown"])


WITHOUT, WITH = ("gemma", "mistral", "llama-3", "phi-3", "phi-4-mini"), ("qwen-2.5", "mistral-nemo", "llama-3.1")
# Phi 4 mini's writes them into a system message, and the rows have none.


@pytest.mark.parametrize(("family", "writes"), [*((name, False) for name in WITHOUT), *((name, True) for name in WITH)])
def test_tools_that_a_template_does_not_write_are_a_warning(tmp_path: Path, family: str, writes: bool) -> None:
    renderer = renderer_of(family)
    path, said = tmp_path / "tools.jsonl", {"role": "user", "content": "Weather?"}
    answer = [{"role": "assistant", "content": "Sunny."}]
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]
    forms: dict[str, Any] = {
        "supervised": {"messages": [said, *answer], "tools": tools},
        "dpo": {
            "input": {"messages": [said], "tools": tools},
            "preferred_output": answer,
            "non_preferred_output": [{**answer[0], "content": "No."}],
        },
        "reinforcement": {"messages": [said], "tools": tools},
    }
    methods: tuple[Method, ...] = ("supervised", "dpo", "reinforcement")
    for method in methods:
        form = forms[method]
        path.write_text(json.dumps(form) + "\n")
        length = Decision(name="max_length", value=4096, reason="asked for")
        (row,) = _rows(path, [1], Reader(renderer=renderer, max_length=length), method)
        assert (row["ok"], [p["code"] for p in row["problems"]]) == (True, [] if writes else ["tools_not_written"])


def test_a_template_that_refuses_says_so_with_the_line(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "picky", "{{ raise_exception('no system message, please') }}")
    (row,) = _rows(GOLDEN / "chat.jsonl", [1], load_reader(folder, asked_length=None))
    (problem,) = row["problems"]
    assert problem["message"].startswith("Example 1 cannot be written in the base model's chat format: ")
    assert "no system message, please" in problem["message"]


def test_lines_come_in_the_order_asked_for_and_empty_ones_are_refused(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "three.jsonl"
    rows = [json.dumps({"prompt": f"{n}", "completion": "x"}) for n in range(3)]
    path.write_text("\n".join([*rows, ""]) + "\n")
    assert [row["line"] for row in _rows(path, [3, 1], reader)] == [3, 1]
    with pytest.raises(InvalidRequest, match=r"^Line 4 of three\.jsonl is empty\.$"):
        _rows(path, [4], reader)


def test_the_length_limit_is_that_of_a_job() -> None:
    assert load_reader(mini_folder(), asked_length=None).max_length.value == 512
    assert load_reader(mini_folder(), asked_length=100_000).max_length.value == 512
    assert load_reader(mini_folder(), asked_length=64).max_length.value == 64
    with pytest.raises(InvalidRequest):
        load_reader(mini_folder(), asked_length=0)
