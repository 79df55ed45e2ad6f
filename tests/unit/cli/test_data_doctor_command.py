"""``luthier data doctor``: its page, its JSON, its exit codes; the examination runs in processes of its own, without a server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.worker import examine_data
from tests.support.command_line import luthier
from tests.support.doctor_files import chat, clean_rows, write

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "doctor"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of the person who runs the tests is read."""
    monkeypatch.chdir(tmp_path)


def test_a_clean_file_with_its_validation_file_ends_with_0(tmp_path: Path) -> None:
    train, valid = write(tmp_path / "t.jsonl", clean_rows(30)), write(tmp_path / "v.jsonl", clean_rows(5, seed=1))
    result = luthier("data", "doctor", str(train), "--validation", str(valid))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "t.jsonl  chat rows, 30 rows, against v.jsonl with 5"
    assert "checks: nothing found" in result.stdout
    assert "luthier-mini: 0 rows longer than its 512 tokens (all 30 that may be were tokenised)" in result.stdout


def test_each_finding_has_its_weight_lines_sentence_reason_and_cure() -> None:
    result = luthier("data", "doctor", str(GOLDEN / "labels.jsonl"), "--validation", str(GOLDEN / "labels.valid.jsonl"))
    assert (result.exit_code, result.stderr) == (0, "")
    row = next(line for line in result.stdout.splitlines() if "label_spelling" in line)
    assert row.split()[:3] == ["serious", "label_spelling", "2"]
    page = " ".join(result.stdout.split())
    assert "are written in more than one way (case, spaces or punctuation)" in page
    assert "Why: To the model two writings are two labels" in page
    assert "Do: Write each label in one way." in page
    assert "serious" in result.stdout.splitlines()[-1]


def test_json_and_output_are_the_report(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    result = luthier("data", "doctor", str(GOLDEN / "talks.jsonl"), "--json", "--output", str(output))
    report = json.loads(result.stdout)
    assert json.loads(output.read_text(encoding="utf-8")) == report
    expected = json.loads((GOLDEN / "talks.report.json").read_text(encoding="utf-8"))
    found = {finding["code"]: finding for finding in report["findings"]}
    assert {finding["code"]: finding for finding in expected["findings"]}.items() <= found.items()
    assert report["statistics"]["models"] == expected["statistics"]["models"]


def test_a_file_that_a_job_would_fail_over_ends_with_5_after_the_page(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [*clean_rows(12), {"messages": []}])
    result = luthier("data", "doctor", str(path))
    assert result.exit_code == 5
    assert "chat rows, 12 rows" in result.stdout
    assert result.stderr == (
        f"luthier: A job would fail over 1 line of {path}, which were left out here. See all of it: luthier data check {path}\n"
    )
    few, valid = write(tmp_path / "few.jsonl", clean_rows(3)), write(tmp_path / "v.jsonl", [b"{"])
    result = luthier("data", "doctor", str(few), "--validation", str(valid))
    assert result.stderr.startswith(f"luthier: A job would fail over {few}: Training file has 3 example(s), but must have at least 10")
    assert f"A job would fail over 1 line of {valid}" in result.stderr
    assert result.stderr.endswith(f"luthier data check {few} --validation {valid}\n")
    quiet = luthier("data", "doctor", str(few), "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (5, "", "")


def test_strict_ends_with_5_when_something_is_serious(tmp_path: Path) -> None:
    result = luthier("data", "doctor", str(GOLDEN / "silent.jsonl"), "--strict")
    assert result.exit_code == 5
    assert "1 finding is serious (--strict)" in result.stderr
    assert luthier("data", "doctor", str(GOLDEN / "silent.jsonl"), "--strict", "--quiet").exit_code == 5
    clean = write(tmp_path / "t.jsonl", clean_rows(30))
    assert luthier("data", "doctor", str(clean), "--strict").exit_code == 0


def test_models_are_folders_or_names_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    long = write(tmp_path / "t.jsonl", [chat(f"number {i}", f"{i} word " * 300) for i in range(12)])
    result = luthier("data", "doctor", str(long), "--model", "luthier-mini", "--json")
    (finding,) = [finding for finding in json.loads(result.stdout)["findings"] if finding["code"] == "truncated"]
    assert "luthier-mini trains on" in finding["finding"]
    assert luthier("data", "doctor", str(long), "--model", "nobody").exit_code == 4
    assert luthier("data", "doctor", str(long), "--model", str(tmp_path)).exit_code == 2


def test_nothing_of_a_file_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    rows = [*clean_rows(20), *(chat("\x1b[31m[bold]red\x07", answer) for answer in ("\x1b]0;x\x07", "b"))]
    result = luthier("data", "doctor", str(write(tmp_path / "t\x1b[31m.jsonl", rows)))
    assert "conflicting_answers" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "[bold]red" in result.stdout


def test_a_large_file_is_read_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(f"question {i}", f"{i} " + "word " * 4000) for i in range(250)]
    path = write(tmp_path / "t.jsonl", rows)
    assert path.stat().st_size > examine_data._LARGE_BYTES
    command = [sys.executable, "-m", "luthier.worker.examine_data", str(path), "--validation", str(path)]
    told = [json.loads(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()]
    progress = [value["progress"] for value in told if "progress" in value]
    assert progress == sorted(progress)
    assert progress[-1] <= 2 * path.stat().st_size
    report = told[-1]["report"]
    assert report["num_rows"] == 250
    monkeypatch.setattr(examine_data, "_LARGE_BYTES", 1 << 30)
    from luthier.core.settings import Settings

    options = {"validation": path, "method": None, "models": ["luthier-mini"], "losses": False, "seed": 0, "settings": Settings()}
    alone = examine_data.examine_data(path, **options, tell=lambda *_: None).to_dict()
    assert sorted(alone["checks"]) == sorted(report["checks"])
    assert {finding["code"]: finding for finding in alone["findings"]} == {finding["code"]: finding for finding in report["findings"]}
    assert alone["statistics"] == report["statistics"]
