"""``luthier data show`` and ``luthier data losses``: pages, JSON, CSV and exit codes, through real processes."""

import csv
import json
from pathlib import Path

import pytest

from tests.support.command_line import luthier, one_line
from tests.support.tiny_models import CHATML, tokenizer_folder

ROOT = Path(__file__).resolve().parents[3]
REVIEWS = str(ROOT / "examples" / "sentiment-label" / "train.jsonl")
ROWS = ROOT / "tests" / "golden" / "row_tokens"


def test_a_row_is_shown_with_its_tokens_and_a_legend(tmp_path: Path) -> None:
    result = luthier("data", "show", REVIEWS, "--line", "17", "--data-dir", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "train.jsonl, line 17  chat row, read by luthier-mini, at most 512 tokens" in result.stdout
    assert "16   assistant   trained   pos│itive│<|end|>" in result.stdout
    assert "19 tokens: 3 trained (15.8%)" in result.stdout
    assert "counts in the loss" in result.stdout


def test_several_lines_as_json_with_every_token(tmp_path: Path) -> None:
    arguments = ("--line", "3", "--line", "2", "--model", "gpt-4o-mini", "--max-length", "400", "--json", "--data-dir", str(tmp_path))
    answer = json.loads(luthier("data", "show", REVIEWS, *arguments).stdout)
    assert [row["line"] for row in answer["data"]] == [3, 2]
    assert answer["model"]["name"] == "luthier-mini"
    tokens = answer["data"][0]["sequences"][0]["tokens"]
    assert set(tokens[0]) == {"id", "text", "bytes", "kind", "lost", "role", "message", "weight"}
    assert {row["max_length"] for row in answer["data"]} == {400}


@pytest.mark.parametrize(("name", "method"), [("preference", []), ("reinforcement", ["--method", "reinforcement"])])
def test_rows_of_the_other_methods(name: str, method: list[str], tmp_path: Path) -> None:
    result = luthier("data", "show", str(ROWS / f"{name}.jsonl"), *method, "--data-dir", str(tmp_path))
    assert result.exit_code == 0
    assert f"{name} row" in result.stdout


def test_a_line_that_teaches_nothing_is_told_and_ends_with_5(tmp_path: Path) -> None:
    result = luthier("data", "show", REVIEWS, "--line", "17", "--max-length", "5", "--data-dir", str(tmp_path))
    assert result.exit_code == 5
    assert "error: Example 17 has no token to train on" in result.stdout
    assert f"Nothing can be learned from line 17 of {REVIEWS}. See how many rows the base cuts or refuses: " in result.stderr
    assert f"luthier data doctor {REVIEWS} --model luthier-mini" in result.stderr
    result = luthier("data", "show", str(ROWS / "faulty.jsonl"), "--json", "--data-dir", str(tmp_path))
    assert result.exit_code == 5
    assert json.loads(result.stdout)["data"][0]["findings"][0]["code"] == "unknown_role"
    assert f"luthier data check {ROWS / 'faulty.jsonl'}" in result.stderr


def test_packing_is_foretold_for_the_line_and_for_the_file(tmp_path: Path) -> None:
    result = luthier("data", "show", REVIEWS, "--line", "17", "--packing", "--data-dir", str(tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "packed: sequence " in result.stdout
    assert "the file packed best-fit: 240 examples" in result.stdout
    told = json.loads(luthier("data", "show", REVIEWS, "--packing", "--json", "--data-dir", str(tmp_path)).stdout)["data"][0]
    place, packing = told["sequences"][0]["placement"], told["packing"]
    assert place["end"] - place["start"] == told["sequences"][0]["num_tokens"]
    assert place["num_sequences"] == packing["num_sequences"]
    assert packing["efficiency"] == packing["num_tokens"] / (packing["num_sequences"] * packing["capacity"])
    result = luthier("data", "show", str(ROWS / "preference.jsonl"), "--packing", "--data-dir", str(tmp_path))
    assert result.exit_code == 2


def test_another_tokenizer_from_a_folder(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path / "chatml", CHATML)
    result = luthier("data", "show", REVIEWS, "--line", "17", "--ids", "--model", str(folder), "--data-dir", str(tmp_path))
    assert result.exit_code == 0
    assert "read by chatml" in result.stdout
    assert "⏎" in result.stdout


def test_what_is_not_there_is_told_in_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, code, words in (
        (("--line", "999"), 2, "has 240 lines; there is no line 999"),
        (("--model", "gpt-9"), 4, "No model is named 'gpt-9' here"),
        (("--model", str(tmp_path)), 2, "is not a folder with a model"),
    ):
        for command in ("show", "losses"):
            if command == "losses" and arguments[0] == "--line":
                continue
            assert luthier("data", command, REVIEWS, *arguments, "--data-dir", str(tmp_path)).exit_code == code
            # The process behind the command has said it, on this process's own standard error.
            (line,) = capfd.readouterr().err.splitlines()
            assert words in line
            assert f"luthier data {command} --help" in line
    assert luthier("data", "show", str(tmp_path / "none.jsonl")).exit_code == 2


def test_losses_as_a_page_and_as_csv(tmp_path: Path) -> None:
    table = tmp_path / "losses.csv"
    result = luthier("data", "losses", REVIEWS, "--top", "3", "--csv", str(table), "--data-dir", str(tmp_path), "--seconds", "600")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "240 rows measured with luthier-mini" in result.stdout
    assert "all of 240 lines" in result.stdout
    assert "Nothing stands out" in result.stdout
    rows = list(csv.DictReader(table.open()))
    assert [int(row["line"]) for row in rows] == list(range(1, 241))
    highest = max(rows, key=lambda row: float(row["loss"]))
    assert f"{highest['line']}   {float(highest['loss']):.2f}" in result.stdout


def test_a_sample_says_that_it_is_one(tmp_path: Path) -> None:
    result = luthier("data", "losses", REVIEWS, "--seconds", "0", "--seed", "5", "--data-dir", str(tmp_path))
    assert result.exit_code == 0
    assert "1 rows measured" in result.stdout
    assert "a sample (seed 5) of 240 lines" in result.stdout
    answer = json.loads(luthier("data", "losses", REVIEWS, "--seconds", "0", "--seed", "5", "--json", "--data-dir", str(tmp_path)).stdout)
    assert (answer["object"], answer["statistics"]["num_measured"], answer["is_complete"]) == ("luthier.row_losses", 1, False)


def test_a_file_without_answers_ends_with_5(tmp_path: Path) -> None:
    result = luthier("data", "losses", str(ROWS / "reinforcement.jsonl"), "--data-dir", str(tmp_path))
    assert result.exit_code == 5
    assert "No row of" in one_line(result)
