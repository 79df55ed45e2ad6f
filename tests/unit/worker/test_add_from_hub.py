"""A base model comes from the hub: pinned, checked, resumed, or refused in one sentence with its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.core.settings import Settings
from luthier.storage.database import Database
from luthier.storage.models import ModelStore
from luthier.worker import add_base as command
from tests.support.hub_server import TOKEN, FakeHub, HubRepo, fake_hub, point_at
from tests.support.tiny_models import build


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build("llama", tmp_path_factory.mktemp("hub") / "tiny")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return folder


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub({"acme/tiny": HubRepo.of_folder(tiny)}) as running:
        point_at(monkeypatch, running.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
        yield running


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["add_base", *arguments])
    try:
        command.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _record(data_dir: Path, name: str) -> Any:
    database = Database(Settings(data_dir=data_dir).state_database)
    record = ModelStore(database).get(name)
    database.close()
    return record


def _asked(hub: FakeHub) -> set[str]:
    return {name.rpartition("/")[2] for name, _, _ in hub.requests if not name.startswith("storage")}


def test_a_model_of_the_hub_is_added_at_its_commit(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo = hub.repos["acme/tiny"]
    repo.files |= {"pytorch_model.bin": b"x", "consolidated.safetensors": b"y", "onnx/model.onnx": b"z", "modeling_tiny.py": b"import os"}
    assert _run(monkeypatch, "acme/tiny@main", "--json") == 0
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert shown["id"] == "tiny"
    assert shown["source"] == f"hf://acme/tiny@{repo.commit}"
    assert (shown["licence"], shown["runs_on"]) == ("apache-2.0", "fast")
    assert "acme/tiny at c0ffee000000 (main): licence apache-2.0" in err
    assert "Tuning it by LoRA needs about" in err
    record = _record(tmp_path / "data", "tiny")
    assert (record.source, record.licence, record.runs_on) == (shown["source"], "apache-2.0", "fast")
    folder = tmp_path / "data" / record.path
    assert record.num_bytes == sum(file.stat().st_size for file in folder.iterdir() if file.name != "manifest.json")
    assert json.loads((folder / "manifest.json").read_text())["meta"]["source"] == shown["source"]
    assert not _asked(hub) & {"pytorch_model.bin", "consolidated.safetensors", "model.onnx", "modeling_tiny.py"}
    assert list((tmp_path / "data" / "downloads").iterdir()) == []
    assert _run(monkeypatch, "acme/tiny") == 2
    assert "already exists" in capsys.readouterr().err


def test_the_token_goes_to_the_hub_alone_and_is_never_shown(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repos["acme/tiny"].gated = True
    assert _run(monkeypatch, "acme/tiny") == 3
    refused = capsys.readouterr().err
    assert "acme/tiny is gated" in refused
    assert "hf auth login" in refused
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.requests.clear()
    assert _run(monkeypatch, "acme/tiny") == 0
    assert TOKEN not in "".join(capsys.readouterr())
    said = {name.partition("/")[0]: authorization for name, _, authorization in hub.requests}
    assert said == {"acme": f"Bearer {TOKEN}", "storage": None}
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("change", "source", "code", "sentence"),
    [
        ({}, "acme/none", 4, "The hub has no model acme/none, or it is private"),
        ({}, "acme/tiny@nightly", 4, "no revision 'nightly'"),
        ({"private": True}, "acme/tiny", 4, "or it is private"),
        ({"token": "hf_wrong"}, "acme/tiny", 3, "refuses the access token"),
        ({"status": 503}, "acme/tiny", 6, "answered with status 503"),
        ({"gone": True}, "acme/tiny", 6, "cannot be reached"),
        ({"offline": True}, "acme/tiny", 6, "HF_HUB_OFFLINE is set"),
        ({}, "no-such-folder", 2, "There is no folder no-such-folder"),
        ({}, "./acme/tiny", 2, "There is no folder ./acme/tiny"),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(
    hub: FakeHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    source: str,
    code: int,
    sentence: str,
) -> None:
    hub.repos["acme/tiny"].private = change.get("private", False)
    hub.status = change.get("status")
    if "token" in change:
        monkeypatch.setenv("HF_TOKEN", change["token"])
    if "gone" in change:
        point_at(monkeypatch, "http://127.0.0.1:9")
    if "offline" in change:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert _run(monkeypatch, source) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert "hf_wrong" not in err


@pytest.mark.parametrize(
    ("config", "settings", "code", "sentence"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "modeling_tiny.Tiny"}}, {}, 2, "need remote code"),
        ({"model_type": "../etc"}, {}, 2, "no valid model_type"),
        ({}, {"LUTHIER_TRAIN_MEMORY_BYTES": "1000000"}, 1, "and this machine has 1.0 MB free"),
    ],
)
def test_what_is_refused_costs_no_weights(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    config: dict[str, Any],
    settings: dict[str, str],
    code: int,
    sentence: str,
) -> None:
    files = hub.repos["acme/tiny"].files
    files["config.json"] = json.dumps(json.loads(files["config.json"]) | config).encode()
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert _run(monkeypatch, "acme/tiny") == code
    assert sentence in capsys.readouterr().err
    assert "model.safetensors" not in _asked(hub)
    assert _record(tmp_path / "data", "tiny") is None


def test_a_disk_without_room_is_said_before_anything_comes(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 50_000_000))  # type: ignore[attr-defined]
    assert _run(monkeypatch, "acme/tiny") == 1
    assert "which has 50.0 MB free" in capsys.readouterr().err
    assert hub.requests == []


def test_a_killed_download_goes_on_in_the_next_run(hub: FakeHub, tmp_path: Path) -> None:
    hub.break_after, hub.stall = 200_000, threading.Event()
    environ = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    line = [
        sys.executable,
        "-m",
        "luthier.cli.main",
        "models",
        "add",
        "hf://acme/tiny",
        "--name",
        "mine",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    first = subprocess.Popen(line, env=environ, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        parts = list((tmp_path / "data").rglob("model.safetensors.part"))
        if parts and parts[0].stat().st_size == 200_000:
            break
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    hub.stall.set()
    hub.requests.clear()
    again = subprocess.run(line, env=environ, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stderr
    assert [asked for name, asked, _ in hub.requests if name.startswith("storage")] == ["bytes=200000-"]
    assert _asked(hub) == {"model.safetensors"}
    assert _record(tmp_path / "data", "mine").source == f"hf://acme/tiny@{hub.repos['acme/tiny'].commit}"


def _snapshot(root: Path, tiny: Path) -> Path:
    """The hub's own cache: a folder of links to blobs."""
    commit = "ab" * 20
    repo = root / "models--acme--tiny"
    folder = repo / "snapshots" / commit
    folder.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, file in enumerate(sorted(tiny.iterdir())):
        (repo / "blobs" / f"blob{number}").write_bytes(file.read_bytes())
        (folder / file.name).symlink_to(Path("..") / ".." / "blobs" / f"blob{number}")
    return folder


def test_a_snapshot_in_the_hubs_cache_is_a_folder_like_any_other(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    folder = _snapshot(tmp_path / "cache", tiny)
    assert _run(monkeypatch, str(folder)) == 0
    record = _record(tmp_path / "data", "tiny")
    assert record.source == f"hf://acme/tiny@{'ab' * 20}"
    assert not any(path.is_symlink() for path in (tmp_path / "data" / record.path).iterdir())
    capsys.readouterr()
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (folder / "vocab.json").symlink_to(secret)
    assert _run(monkeypatch, str(folder), "--name", "other") == 2
    assert "symbolic link vocab.json" in capsys.readouterr().err


def test_a_second_copy_of_the_weights_stays_behind(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    shutil.copyfile(folder / "model.safetensors", folder / "consolidated.safetensors")
    assert _run(monkeypatch, str(folder), "--name", "copy") == 0
    names = {path.name for path in (tmp_path / "data" / "bases" / "copy").iterdir()}
    assert "model.safetensors" in names
    assert "consolidated.safetensors" not in names
    assert "README.md" not in names


def test_numbers_for_people_and_the_number_format_follow_the_memory(tiny: Path) -> None:
    import torch

    from luthier.core.errors import LuthierError
    from luthier.models.facts import read_config
    from luthier.worker.base_room import room_for

    config = read_config(tiny)
    billions = {"num_parameters": 8_000_000_000}
    plenty = room_for(Settings(train_memory_bytes=200 * 10**9), config, **billions)
    assert plenty.dtype is torch.float32
    assert "which is there" in plenty.sentence
    half = room_for(Settings(train_memory_bytes=20 * 10**9), config, **billions)
    assert half.dtype is torch.bfloat16
    assert "LUTHIER_PRECISION=bfloat16" in half.sentence
    with pytest.raises(LuthierError, match=r"needs 32\.5 GB .* float32 and 16\.5 GB in bfloat16"):
        _ = room_for(Settings(train_memory_bytes=10 * 10**9), config, **billions).dtype
