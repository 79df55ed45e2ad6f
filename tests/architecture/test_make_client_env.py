"""The maker of the foreign clients' environments: exact pins only, stamps that notice a change, nothing half-made."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import make_client_env


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    clients = (tmp_path / "tests" / "clients", tmp_path / "examples" / "clients")
    for name, value in (("ROOT", tmp_path), ("CLIENTS", clients), ("ENVIRONMENTS", tmp_path / ".client-envs")):
        monkeypatch.setattr(make_client_env, name, value)
    (tmp_path / "tests" / "clients" / "old").mkdir(parents=True)
    return tmp_path


def pin(place: Path, text: str) -> None:
    (place / "tests" / "clients" / "old" / "requirements.txt").write_text(text)


def test_every_clients_pins_are_exact() -> None:
    assert {"openai-1", "openai-2", "openai-node"} <= set(make_client_env.names())
    for name in make_client_env.names():
        assert make_client_env.pins(name)


@pytest.mark.parametrize("loose", ["openai", "openai>=1.0", "openai~=1.0  # == in a remark"])
def test_a_loose_pin_is_refused_before_anything_is_made(place: Path, loose: str, capsys: pytest.CaptureFixture[str]) -> None:
    pin(place, f"# pins\n{loose}\n")
    assert make_client_env.main(["old"]) == 1
    assert "does not pin" in capsys.readouterr().err
    assert not (place / ".client-envs").exists()


def test_an_unknown_client_is_named_beside_the_known_ones(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pin(place, "")
    assert make_client_env.main(["new"]) == 1
    assert "new is no client with pins: tests/clients/new/requirements.txt is missing (there are: old)." in capsys.readouterr().err


def test_an_environment_is_made_once_and_anew_after_a_change(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def install(folder: Path, requirements: Path) -> None:
        folder.mkdir()
        made.append(requirements.read_text())

    monkeypatch.setattr(make_client_env, "_install_python", install)
    pin(place, "a==1\n")
    assert "is absent" in make_client_env.why_absent("old")
    assert make_client_env.main(["old"]) == make_client_env.main(["old"]) == 0
    assert made == ["a==1\n"]
    assert make_client_env.why_absent("old") == ""
    pin(place, "a==2\n")
    assert not make_client_env.is_fresh("old")
    assert make_client_env.main(["--all"]) == 0
    assert made == ["a==1\n", "a==2\n"]
    assert "up to date" in capsys.readouterr().out


@pytest.mark.parametrize(("said", "code"), [("No matching distribution", 1), ("NameResolutionError: no such host", 3)])
def test_what_cannot_be_installed_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str, code: int
) -> None:
    pin(place, "a==1\n")
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        (place / ".client-envs" / "old").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, int("install" in command), "", said)

    monkeypatch.setattr(make_client_env.subprocess, "run", run)
    assert make_client_env.main(["old"]) == code
    assert said in capsys.readouterr().err
    assert commands[0] == [sys.executable, "-m", "venv", str(place / ".client-envs" / "old")]
    assert not (place / ".client-envs" / "old").exists()


def test_pins_may_stand_beside_an_example(place: Path) -> None:
    folder = place / "examples" / "clients" / "new"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("a==1\n")
    assert make_client_env.names() == ["new"]
    assert make_client_env.pins("new") == [folder / "requirements.txt"]
