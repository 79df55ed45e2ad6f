"""``luthier serve`` at start and stop: clear sentences, exit codes, the key, readiness."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.examples import chat_file
from tests.support.server import ServerProcess


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luthier.cli.main", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_port_in_use_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = serve("--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert result.returncode == 1
    assert result.stderr.startswith(f"luthier: Cannot listen on 127.0.0.1:{port}")
    assert "--port" in result.stderr
    assert not (tmp_path / "data").exists(), "nothing half-made"


def test_an_unwritable_directory_is_one_sentence(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    result = serve("--port", "0", "--data-dir", str(blocked / "data"))
    assert result.returncode == 1
    assert "cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_server_on_the_same_directory_names_the_first(server: ServerProcess) -> None:
    assert server.process is not None
    result = serve("--port", "0", "--data-dir", str(server.data_dir))
    assert result.returncode == 1
    assert "Another Luthier server" in result.stderr
    assert str(server.process.pid) in result.stderr
    assert server.ready()[0] == 200, "the first one is untouched"


def test_the_key_file_holds_the_key_alone_and_guards_v1(server: ServerProcess) -> None:
    path = server.data_dir / "api_key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == path.read_text().strip()
    for target in ("/v1/models", f"/v1/models?api_key={server.key}", f"/v1/models?key={server.key}"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(server.url + target, timeout=5)
        assert refused.value.code == 401
    with urllib.request.urlopen(server.url + "/healthz", timeout=5) as answer:
        assert answer.status == 200


def test_sigterm_ends_with_code_0_and_leaves_nothing_running(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data").start()
    children = server.descendants()
    assert server.terminate() == 0
    assert not [p for p in children if p.is_running() and p.status() != "zombie"]


def test_a_server_that_a_program_started_for_itself_ends_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "luthier.cli.main", "serve", "--port", "0", "--data-dir", str(tmp_path / "data"), "--until-eof"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    record = tmp_path / "data" / "server.json"
    deadline = time.monotonic() + 60
    while not record.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=40) == 0
    assert not record.exists()


def test_a_stopped_data_directory_can_be_moved(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path / "here").start()
    client = first.client()
    file = client.files.create(file=("train.jsonl", chat_file(12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini", training_file=file.id, hyperparameters={"n_epochs": 1})
    model = first.wait_for_job(job.id).fine_tuned_model
    key = first.key
    assert first.terminate() == 0
    shutil.move(tmp_path / "here", tmp_path / "a place with spaces")
    second = ServerProcess(tmp_path / "a place with spaces").start()
    try:
        assert second.key == key
        answer = second.client().chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
        assert answer.model == model
    finally:
        second.stop()


def test_the_process_environment_does_not_show_the_key(server: ServerProcess) -> None:
    assert server.process is not None
    for process in server.descendants():
        environ = Path(f"/proc/{process.pid}/environ")
        if environ.exists() and os.access(environ, os.R_OK):
            assert server.key not in environ.read_text(errors="replace")


def test_a_settings_file_gives_aliases_and_the_base_shows_its_card(tmp_path: Path) -> None:
    config = tmp_path / "luthier.toml"
    config.write_text('[aliases]\n"support@prod" = "luthier-mini"\n', encoding="utf-8")
    server = ServerProcess(tmp_path / "data", LUTHIER_CONFIG=str(config)).start()
    try:
        client = server.client()
        answer = client.chat.completions.create(model="support@prod", messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
        assert answer.model == "support@prod"
        shown: dict[str, Any] = {m.id: m.to_dict()["luthier"] for m in client.models.list()}
        assert shown["support@prod"]["alias_of"] == "luthier-mini"
        for own in shown.values():
            assert len(own["base_revision"]) == 64
            assert own["licence"].startswith("cc-by")
    finally:
        server.stop()
