"""The examples with other tools: pinned, explained, on the page with the versions they are pinned to; skips are held against the list.

The examples themselves run in ``make test-clients``, which needs a package index.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import make_client_env, run_client_examples

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "clients"
NAMES = ("dspy", "instructor", "langchain", "litellm", "wandb")


def test_every_tool_has_an_example() -> None:
    assert tuple(run_client_examples.examples()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_explained_and_exactly_pinned(name: str) -> None:
    lines = (EXAMPLES / name / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#") and not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.+!]*", line)] == []
    pins = run_client_examples.pins(name)
    assert "openai" in pins
    assert not {"torch", "luthier"} & set(pins)
    assert f"examples/clients/{name}/run.py" in (EXAMPLES / name / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_compiles_and_holds_no_address_of_its_own(name: str) -> None:
    source = (EXAMPLES / name / "run.py").read_text(encoding="utf-8")
    compile(source, name, "exec")
    assert "http" not in source
    assert "setattr(" not in source, "the tool stays as it is"


def test_the_page_shows_every_tool_in_its_pinned_version() -> None:
    page = run_client_examples.PAGE.read_text(encoding="utf-8")
    for name in NAMES:
        pins = run_client_examples.pins(name)
        tool = next(iter(pins))
        assert f"\n## {tool} {pins[tool]}\n" in page, "run `make test-clients`"
        assert f"| {tool} | {pins[tool]} | {pins['openai']} | passed |" in page


def test_the_list_of_skips_names_examples_only() -> None:
    assert run_client_examples.listed_skips(run_client_examples.SKIPPED.read_text(encoding="utf-8")) <= set(NAMES)


def test_a_skip_must_stand_in_the_list_and_the_list_must_be_true() -> None:
    differences = run_client_examples.differences
    assert differences({"dspy"}, {"dspy"}, set(NAMES)) == []
    assert differences({"dspy"}, set(), set(NAMES)) == ["dspy was skipped and does not stand in examples/clients/skipped.txt"]
    assert differences(set(), {"wandb"}, set(NAMES)) == ["wandb stands in examples/clients/skipped.txt and was not skipped: take it off"]
    assert differences(set(), {"wandb"}, {"dspy"}) == [], "what was not asked for says nothing"


def run_with(monkeypatch: pytest.MonkeyPatch, code: int, message: str) -> int:
    """The runner's exit code when no environment can be made, with the maker's code and message."""

    def refused(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[:2] == [sys.executable, str(ROOT / "scripts" / "make_client_env.py")]
        return subprocess.CompletedProcess(command, code, "", message)

    monkeypatch.setattr(run_client_examples.subprocess, "run", refused)
    return run_client_examples.main([])


def test_without_an_index_everything_is_skipped_with_its_reason_and_held_against_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = run_client_examples.PAGE.read_text(encoding="utf-8")
    assert run_with(monkeypatch, make_client_env.UNREACHABLE, "luthier: the index does not answer\n") == 1
    said = capsys.readouterr().out
    assert "skipped: wandb: luthier: the index does not answer" in said
    assert "skipped: dspy, instructor, langchain, litellm, wandb" in said
    assert "not as listed: dspy was skipped" in said
    assert said.endswith("clients: 0 passed, 0 failed, 5 skipped\n")
    assert run_client_examples.PAGE.read_text(encoding="utf-8") == before


def test_an_environment_that_cannot_be_made_for_another_reason_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, 1, "no such version\n") == 1
    assert capsys.readouterr().out.endswith("clients: 0 passed, 5 failed, 0 skipped\n")
