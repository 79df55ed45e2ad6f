"""``luthier doctor``: each finding and its exit code."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from luthier.api.routes.health import ROLES
from luthier.cli import checkup
from luthier.cli.checkup import Finding
from luthier.cli.doctor import worst
from luthier.cli.exit_codes import ExitCode
from tests.support.api_server import KEY, ApiServer
from tests.support.command_line import luthier
from tests.support.fake_server import FakeApi, serving
from tests.unit.cli.conftest import Run

Usage = namedtuple("Usage", "total used free")


def findings(result: Result) -> dict[str, dict[str, Any]]:
    return {f["check"]: f for f in json.loads(result.stdout)}


def beat(server: ApiServer, age: float) -> None:
    for role in ROLES:
        server.services.workers.beat(f"owner-{role}", role, server.services.clock() - age)


def test_a_ready_server_is_fine(server: ApiServer, run: Run) -> None:
    beat(server, age=0)
    data_dir = str(server.services.settings.data_dir)
    result = run("doctor", "--json", "--data-dir", data_dir)
    found = findings(result)
    assert {name: found[name]["level"] for name in ("versions", "server", "key", "ready", "data directory")} == dict.fromkeys(
        ("versions", "server", "key", "ready", "data directory"), "ok"
    )
    assert "openai 3." in found["versions"]["message"]
    assert "free" in found["disk"]["message"]
    assert result.exit_code == (1 if found["disk"]["level"] == "error" else 0)


def test_a_server_that_is_not_ready_tells_its_reasons(server: ApiServer, run: Run, tmp_path: Path) -> None:
    beat(server, age=70)
    server.engine.loaded = ()
    result = run("doctor", "--data-dir", str(tmp_path / "none"))
    assert result.exit_code == ExitCode.FAILED
    for part in ("✓ server", "ready: worker.train", "gave no sign of life", "ready: engine", "is not loaded yet", "is not on this machine"):
        assert part in result.stdout
    quiet = run("doctor", "-q", "--data-dir", str(tmp_path / "none"))
    assert quiet.stdout.splitlines() == [*(f"ready: worker.{role}" for role in ROLES), "ready: engine"]


def test_a_wrong_key(server: ApiServer) -> None:
    result = luthier("doctor", "--json", url=server.url, key="sk-wrong")
    assert result.exit_code == ExitCode.AUTH
    assert findings(result)["key"]["next"] == "luthier doctor --data-dir DIR"


def test_no_key_at_all(tmp_path: Path) -> None:
    result = luthier("doctor", "--json", "--data-dir", str(tmp_path))
    assert result.exit_code == ExitCode.AUTH
    assert "No API key" in findings(result)["key"]["message"]


def test_nobody_there() -> None:
    result = luthier("doctor", "--json", url="http://127.0.0.1:9")
    assert result.exit_code == ExitCode.UNREACHABLE, result.stderr
    assert findings(result)["server"]["next"] == "luthier serve"


def test_another_service_is_not_taken_for_luthier() -> None:
    with serving(FakeApi([], lambda model, text: "")) as url:
        result = luthier("doctor", "--json", url=url)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "answers 404 to /healthz" in findings(result)["server"]["message"]


def test_a_readable_key_file_and_a_full_disk_are_found(
    server: ApiServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(server, age=0)
    (tmp_path / "api_key").write_text(KEY)
    (tmp_path / "api_key").chmod(0o644)
    free = {"bytes": 1_000_000_000}
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: Usage(1, 1, free["bytes"]))
    result = run("doctor", "--json", "--data-dir", str(tmp_path))
    assert (findings(result)["disk"]["level"], result.exit_code) == ("warn", 0)
    assert findings(result)["key file"]["next"] == f"chmod 600 {tmp_path / 'api_key'}"
    free["bytes"] = 1_000_000
    full = run("doctor", "--json", "--data-dir", str(tmp_path))
    assert (findings(full)["disk"]["level"], full.exit_code) == ("error", 1)


def test_looking_changes_nothing(run: Run, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    run("doctor", "--data-dir", str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
    assert shutil.disk_usage(tmp_path).free > 0


def test_the_worst_finding_decides() -> None:
    def of(*codes: ExitCode) -> ExitCode:
        return worst([Finding("x", "error", "", code=code) for code in codes])

    assert of() == of(ExitCode.DONE) == ExitCode.DONE
    assert of(ExitCode.FAILED, ExitCode.DONE, ExitCode.AUTH) == ExitCode.AUTH
    assert of(ExitCode.AUTH, ExitCode.UNREACHABLE, ExitCode.FAILED) == ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    ("url", "environ", "part"),
    [
        ("http://127.0.0.1:9", {"LUTHIER_PORT": "many"}, "LUTHIER_PORT"),
        ("nonsense://x", {}, "nonsense://x"),
        ("http://[::1", {}, "is not the address"),
    ],
)
def test_settings_that_do_not_fit_are_told(url: str, environ: dict[str, str], part: str) -> None:
    result = luthier("doctor", "--json", url=url, **environ)
    assert result.exit_code == ExitCode.USAGE
    assert part in findings(result)["settings"]["message"]
