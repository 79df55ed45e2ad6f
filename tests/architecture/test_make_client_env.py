"""The maker of the foreign clients' environments: exact pins only, stamps that notice a change, nothing half-made."""

import sys
from pathlib import Path

import pytest

from scripts import make_client_env


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, text in (("ROOT", tmp_path), ("CLIENTS", tmp_path / "tests" / "clients"), ("ENVIRONMENTS", tmp_path / ".client-envs")):
        monkeypatch.setattr(make_client_env, name, text)
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


def test_what_cannot_be_installed_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pin(place, "a==1\n")
    commands: list[list[str]] = []

    def call(command: list[str], **_: object) -> int:
        commands.append(command)
        (place / ".client-envs" / "old").mkdir(exist_ok=True)
        return 1 if "install" in command else 0

    monkeypatch.setattr(make_client_env.subprocess, "call", call)
    assert make_client_env.main(["old"]) == 1
    assert "could not install the packages" in capsys.readouterr().err
    assert commands[0] == [sys.executable, "-m", "venv", str(place / ".client-envs" / "old")]
    assert not (place / ".client-envs" / "old").exists()
