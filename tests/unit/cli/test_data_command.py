"""``luthier data check``: its page, its JSON, its CSV and its exit codes; the check runs in a process of its own, without a server."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from luthier.core.data_report import CSV_COLUMNS
from tests.support.command_line import luthier

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "broken_rows"
SOUND = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
FAULTY = '{"messages": [{"role": "user", "content": "hi"}, {"content": "hello"}]}\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of the person who runs the tests is read."""
    monkeypatch.chdir(tmp_path)


def _file(tmp_path: Path, text: str, name: str = "train.jsonl") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_sound_file_is_summed_up_and_ends_with_0() -> None:
    example = EXAMPLES / "tool-call"
    result = luthier("data", "check", str(example / "train.jsonl"), "--validation", str(example / "valid.jsonl"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Sound: 240 rows" in result.stdout
    assert "Sound: 60 rows" in result.stdout
    assert "240 assistant, 240 user" in result.stdout


def test_faults_are_shown_with_place_code_and_cure_and_end_with_5(tmp_path: Path) -> None:
    path = _file(tmp_path, SOUND + FAULTY)
    result = luthier("data", "check", path)
    assert result.exit_code == 5
    shown = next(line for line in result.stdout.splitlines() if "messages[1].role" in line)
    assert shown.split()[:4] == ["2", "50", "missing_role", "messages[1].role"]
    assert "Discriminator 'role' is missing in value" in shown
    assert "Add role: system" in result.stdout
    assert result.stderr == f"luthier: {path} has 1 fault. Correct the file and try again: luthier data check {path}\n"


def test_only_fifty_are_shown_and_all_are_in_json_and_csv(tmp_path: Path) -> None:
    path, table = _file(tmp_path, SOUND + FAULTY * 120), tmp_path / "faults.csv"
    page = luthier("data", "check", path, "--csv", str(table)).stdout
    assert page.count("messages[1].role") == 50
    assert "50 of 120 findings are shown" in page
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(CSV_COLUMNS)
    assert [row[1] for row in rows[1:]] == [str(n) for n in range(2, 122)]
    result = luthier("data", "check", path, "--json")
    (report,) = json.loads(result.stdout)["data"]
    assert result.exit_code == 5
    assert (report["num_faults"], len(report["findings"])) == (120, 120)
    assert report["error"]["code"] == "invalid_training_file"


def test_json_of_two_files_is_a_list_of_two_reports(tmp_path: Path) -> None:
    train, valid = _file(tmp_path, SOUND * 10), _file(tmp_path, FAULTY, "valid.jsonl")
    result = luthier("data", "check", train, "--validation", valid, "--json")
    reports: list[dict[str, Any]] = json.loads(result.stdout)["data"]
    assert [(r["file"], r["role"], r["ok"], len(r["findings"])) for r in reports] == [
        ("train.jsonl", "training", True, 0),
        ("valid.jsonl", "validation", False, 1),
    ]
    assert reports[1]["error"]["code"] == "invalid_validation_file"
    assert result.exit_code == 5


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    assert [
        (r.exit_code, r.stdout, r.stderr) for r in (luthier("data", "check", _file(tmp_path, text), "-q") for text in (SOUND * 10, FAULTY))
    ] == [(0, "", ""), (5, "", "")]


def test_the_method_decides_what_is_sound(tmp_path: Path) -> None:
    rewards = str(EXAMPLES / "word-sentence-rft" / "train.jsonl")
    assert luthier("data", "check", rewards, "--method", "reinforcement", "-q").exit_code == 0
    assert luthier("data", "check", rewards, "-q").exit_code == 5
    preferences = luthier("data", "check", str(EXAMPLES / "formality-dpo" / "train.jsonl"))
    assert preferences.exit_code == 0
    assert "preference rows for preferences (DPO)" in preferences.stdout


def test_the_training_file_says_what_the_validation_file_is_for(tmp_path: Path) -> None:
    preferences = str(EXAMPLES / "formality-dpo" / "train.jsonl")
    result = luthier("data", "check", preferences, "--validation", _file(tmp_path, SOUND), "--json")
    assert [r["method"] for r in json.loads(result.stdout)["data"]] == ["dpo", "dpo"]
    assert result.exit_code == 5


def test_what_a_file_holds_cannot_command_the_terminal(tmp_path: Path) -> None:
    row = json.loads(SOUND) | {"\x1b[31m[bold]=cmd()\u202e": 1}
    result = luthier("data", "check", _file(tmp_path, json.dumps(row)))
    assert result.exit_code == 5
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold]=cmd()" in result.stdout


def test_the_longest_line_is_the_servers_setting(tmp_path: Path) -> None:
    (tmp_path / "luthier.toml").write_text("max_line_bytes = 100\n", encoding="utf-8")
    path = _file(tmp_path, SOUND * 10 + json.dumps({"messages": "x" * 100}))
    (report,) = json.loads(luthier("data", "check", path, "--json", LUTHIER_MAX_LINE_BYTES="110").stdout)["data"]
    assert [finding["code"] for finding in report["findings"]] == ["line_too_long"]


def test_the_hundred_broken_rows_are_shown() -> None:
    result = luthier("data", "check", str(GOLDEN / "chat.jsonl"), LUTHIER_MAX_LINE_BYTES="20000")
    assert result.exit_code == 5
    assert "50 of 88 findings are shown" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [["missing.jsonl"], ["f.jsonl", "--json", "-q"], ["f.jsonl", "--csv", "no/such/folder.csv"], ["f.jsonl", "--method", "sft"]],
)
def test_a_command_written_wrongly_ends_with_2(tmp_path: Path, arguments: list[str]) -> None:
    _file(tmp_path, SOUND * 10, "f.jsonl")
    result = luthier("data", "check", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
