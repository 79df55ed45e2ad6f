"""The first minute on a bare machine: what the environment's maker checks and says before it touches anything."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import make_venv

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 9, 2), (2, 7, 18)])
def test_an_old_python_is_refused_with_one_sentence(version: tuple[int, ...]) -> None:
    with pytest.raises(make_venv.Refused, match=r"needs Python 3\.11 or newer and this is") as refusal:
        make_venv.check_python(version)
    assert "\n" not in str(refusal.value)


def test_this_python_is_accepted() -> None:
    make_venv.check_python(sys.version_info)
    make_venv.check_venv_module()


def test_a_full_disk_is_refused_before_anything_is_written() -> None:
    with pytest.raises(make_venv.Refused, match=r"The disk has 1\.2 GB free and installing needs about 3 GB"):
        make_venv.check_disk(1_200_000_000)
    make_venv.check_disk(4_000_000_000)


def test_a_missing_venv_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_venv.subprocess, "call", lambda *a, **k: 1)
    with pytest.raises(make_venv.Refused, match="venv module is missing"):
        make_venv.check_venv_module()


def test_a_stamp_of_other_dependencies_is_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(make_venv, "ROOT", tmp_path)
    monkeypatch.setattr(make_venv, "VENV", tmp_path / ".venv")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert not make_venv.is_fresh("runtime")
    make_venv.stamp_path("dev").write_text(make_venv.stamp_text("dev"))
    assert make_venv.is_fresh("dev")
    assert make_venv.is_fresh("runtime"), "a dev environment serves the runtime's targets too"
    (tmp_path / "constraints.txt").write_text("changed")
    assert not make_venv.is_fresh("dev")


def test_a_runtime_environment_does_not_pass_for_a_dev_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(make_venv, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    make_venv.stamp_path("runtime").write_text(make_venv.stamp_text("runtime"))
    assert make_venv.is_fresh("runtime")
    assert not make_venv.is_fresh("dev")


def test_the_maker_can_be_read_by_old_pythons() -> None:
    source = (ROOT / "scripts" / "make_venv.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 6))
    foreign = [
        name.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for name in node.names
        if name.name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert foreign == []


def test_make_without_a_target_lists_every_listed_target() -> None:
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    listed = ["help", "demo", "serve", "test", "nightly", "fuzz", "test-loggers", "test-clients"]
    listed += ["check", "conformance", "bench", "bench-training", "base-model", "web", "clean"]
    assert [line.split()[1] for line in shown.splitlines()[1:]] == listed


def test_constraints_pin_every_dependency_and_name_no_local_build() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert [line for line in lines if "==" not in line or "+" in line or "/" in line] == []
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        name.partition(">=")[0].partition("[")[0].lower() for name in [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    }
    assert wanted <= pinned
    assert "torch==2.13.0" in lines
