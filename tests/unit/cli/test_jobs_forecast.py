"""``luthier jobs forecast``: real rows, the real small model, and a process of its own, without a server."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import luthier
from tests.support.examples import chat_file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings file of the person who runs the tests is read, and no data directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(tmp_path: Path) -> str:
    """Twelve rows."""
    path = tmp_path / "train.jsonl"
    path.write_bytes(chat_file(12))
    return str(path)


def test_a_dry_run_tells_everything(train: str, tmp_path: Path) -> None:
    valid = tmp_path / "valid.jsonl"
    valid.write_bytes(chat_file(3, "valid.jsonl"))
    numbers = ("--n-epochs", "2", "--batch-size", "5", "--seconds", "0.5")
    result = luthier(
        "jobs", "forecast", "--training-file", train, "--validation-file", str(valid), *numbers, "--json", LUTHIER_PRICE_PER_HOUR="3600"
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    made = found["forecast"]
    assert (made["basis"], made["examples"], made["steps_per_epoch"], made["total_steps"]) == ("dry_run", 12, 3, 6)
    assert made["tokens"] == 2 * made["tokens_per_epoch"]
    assert 0 < made["trained_per_epoch"] < made["tokens_per_epoch"]
    assert made["seconds"]["low"] < made["seconds"]["likely"] < made["seconds"]["high"]
    assert 100e6 < made["peak_bytes"]["likely"] < 3e9
    assert {part["name"] for part in made["parts"] if part["seconds"]["likely"] > 0} == {
        "start",
        "base",
        "steps",
        "validation",
        "prompts",
        "saves",
        "evaluation",
        "deployment",
    }
    assert found["costs"]["own"]["likely"] == pytest.approx(made["seconds"]["likely"])
    assert {price["model"] for price in found["costs"]["openai"]} == {"gpt-4o", "gpt-4o-mini"}
    assert found["fits"]
    assert not list(tmp_path.glob("luthier-data*"))


def test_the_page_by_formula(train: str) -> None:
    result = luthier("jobs", "forecast", "--training-file", train, "--model", "gpt-4o-mini-2024-07-18", "--seconds", "0")
    assert result.exit_code == 0, result.stderr
    assert "by formula" in result.stdout
    assert "12 x 8 epochs" in result.stdout
    assert "at OpenAI's last price for gpt-4o-mini, 3 a million (a digest of 2026)" in result.stdout
    assert "longest row of a step" in result.stdout
    assert "energy" not in result.stdout
    assert "cost" not in result.stdout


def test_what_does_not_fit_ends_with_1_and_says_what_would_help(train: str) -> None:
    arguments = ("jobs", "forecast", "--training-file", train, "--adapter", "full", "--json")
    result = luthier(*arguments, LUTHIER_TRAIN_MEMORY_BYTES="1000000")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["fits"], found["cures"], found["forecast"]["basis"]) == (False, [], "formula")
    assert found["refusal"] in result.stderr


def test_faulty_rows_end_with_5_and_a_wrong_name_with_2(train: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("{}\n" * 12)
    result = luthier("jobs", "forecast", "--training-file", str(path))
    assert result.exit_code == 5
    assert "missing key 'messages'" in result.stderr
    result = luthier("jobs", "forecast", "--training-file", train, "--model", "nothing")
    assert result.exit_code == 2
    assert "There is no model 'nothing'" in result.stderr
