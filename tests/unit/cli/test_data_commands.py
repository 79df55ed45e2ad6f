"""``luthier data``: the guide's walk, exit codes and streams, through real processes."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "guides" / "prepare-your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LUTHIER_")}
    command = [sys.executable, "-m", "luthier.cli.main", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """The folder in which the guide's lines were run, and what each gave."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "examples").symlink_to(ROOT / "examples")
    lines = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
    done = []
    for line in lines:
        command, _, comment = line.partition("#")
        name, *arguments = shlex.split(command)
        assert name == "luthier"
        done.append(_run(folder, *arguments))
        expected = 5 if "ends with 5" in comment else 0
        assert done[-1].returncode == expected, (line, done[-1].stderr)
    return folder, done


def test_the_walk_of_the_guide_runs_and_prints_what_the_guide_shows(walk) -> None:
    folder, done = walk
    outputs = [result.stderr + result.stdout for result in done]
    shown = [block for kind, block in BLOCKS if kind == "text"]
    assert len(shown) == 5
    for block in shown:
        assert any(block in output for output in outputs), block
    assert (folder / "fixed.diff").read_text(encoding="utf-8").startswith("--- broken.jsonl\n+++ fixed.jsonl\n")


def test_figures_go_to_standard_output_and_notes_to_standard_error(walk) -> None:
    folder, done = walk
    assert done[0].stdout == "faq.jsonl: 10 rows\n"
    assert done[0].stderr.startswith("columns: ")
    labels = next(result.stdout for result in done if "order_status" in result.stdout)
    assert re.search(r"^ order_status +36 +4$", labels, re.MULTILINE)
    assert (folder / "faq.train.jsonl").read_text(encoding="utf-8").count("\n") == 8


def test_the_guides_python_runs(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (code,) = (block for kind, block in BLOCKS if kind == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "columns: question -> prompt, answer -> completion; not used: id",
        "not used: id has a value in 10 rows",
        "10 0",
        "9 11 [4]",
        "8 2",
        "2",
        "10",
    ]
    assert (tmp_path / "faq.valid.jsonl").read_text(encoding="utf-8").count("\n") == 2


def test_what_is_there_is_never_overwritten(walk) -> None:
    folder, _ = walk
    before = (folder / "faq.jsonl").read_bytes()
    result = _run(folder, "data", "import", "examples/data/faq.csv", "-o", "faq.jsonl")
    assert result.returncode == 2
    assert "faq.jsonl exists already" in result.stderr
    assert (folder / "faq.jsonl").read_bytes() == before


def test_lines_that_nothing_cures_end_with_5(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{nope\n{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    result = _run(tmp_path, "data", "fix", "a.jsonl", "-o", "b.jsonl")
    assert result.returncode == 5
    assert "no JSON objects still: 1" in result.stdout
    assert result.stderr == (
        "luthier: No cure makes JSON objects of 1 line (1); they stand in the copy as they were. See them: luthier data check b.jsonl\n"
    )
    assert (tmp_path / "b.jsonl").exists()


def test_redaction_tells_its_figures_as_json_and_shows_no_value(walk) -> None:
    folder, done = walk
    (report,) = (json.loads(result.stdout) for result in done if result.stdout.startswith("{"))
    assert report["changed_lines"] == 3
    emails = {"values": 5, "different": 2, "lines": {"count": 3, "first": [1, 2, 5]}}
    phones = {"values": 2, "different": 1, "lines": {"count": 2, "first": [1, 2]}}
    assert report["kinds"] == {"emails": emails, "phones": phones}
    assert "mail.org" not in (folder / "letters.redacted.jsonl").read_text(encoding="utf-8").replace("@db.mail.org", "")


def test_a_line_that_cannot_be_read_is_not_redacted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "ann@mail.org', encoding="utf-8")
    result = _run(tmp_path, "data", "redact", "a.jsonl", "-o", "b.jsonl")
    assert result.returncode == 5
    assert result.stderr.startswith("luthier: Line 1 is not valid JSON")
    assert "mail.org" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_files_words_reach_the_terminal_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer,\x1b[31mred\nq,a,\n", encoding="utf-8")
    result = _run(tmp_path, "data", "import", "a.csv", "-o", "b.jsonl")
    assert result.returncode == 0
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "a.csv", "-o", "b.jsonl", "--map", "prompt"),
        ("import", "a.csv", "-o", "b.jsonl", "--map", "wrong=question"),
        ("split", "a.csv", "--valid", "1"),
        ("export", "a.csv", "--to", "xml", "-o", "b"),
        ("redact", "a.csv", "-o", "b", "--kinds", "names"),
    ],
)
def test_a_command_that_is_written_wrongly_ends_with_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nq,a\n", encoding="utf-8")
    assert _run(tmp_path, "data", *arguments).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    result = _run(tmp_path, "data", "fix", "a.jsonl", "-o", "x" * 300)
    assert result.returncode == 1
    assert result.stderr.startswith("luthier: ")
    assert result.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_figures_come_as_json_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\nq,a\nr,\n", encoding="utf-8")
    result = _run(tmp_path, "data", "import", "a.csv", "-o", "b.jsonl", "--skip-bad", "--json")
    told = json.loads(result.stdout)
    assert (result.returncode, told["rows"], told["left_out"], told["file"]) == (0, 1, 1, "b.jsonl")
    assert told["faults"] == ["line 3: 'answer', the completion, is empty."]
    fixed = json.loads(_run(tmp_path, "data", "fix", "b.jsonl", "-o", "c.jsonl", "--json").stdout)
    assert (fixed["lines"], fixed["changed_lines"], fixed["still_broken"]) == (1, 0, {"count": 0, "first": []})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fix", "a.jsonl"), "Missing option '--output'"),
        (("fix", "file-abc", "-o", "b.jsonl"), "--output is for files on this machine"),
        (("split", "a.jsonl", "--group-by", "customer"), "--group-by needs the id of a stored file"),
        (("import", "-o", "b.jsonl"), "Missing argument"),
        (("import", "a.jsonl", "--stored-completions"), "not both"),
        (("import", "a.jsonl", "-o", "b.jsonl", "--model", "m"), "add --stored-completions"),
    ],
)
def test_options_of_the_other_kind_of_file_are_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n", encoding="utf-8")
    result = _run(tmp_path, "data", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.rstrip().endswith(f"Try: luthier data {arguments[0]} --help")
