"""``luthier demo``: its steps against a fake API, and its own server's life."""

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from luthier.cli import demo_server as server_module
from luthier.cli.client import Server
from luthier.cli.demo import MODEL, example_folder, six_lines
from luthier.cli.demo import demo as demo_command
from luthier.cli.demo_data import Phrase, asked_phrases
from luthier.cli.demo_server import DemoServer, demo_server
from luthier.core.errors import InvalidRequest, Unavailable
from tests.support.fake_server import FakeApi, serving
from tests.support.trace_logs import FINAL, whole_run

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "translate-en-fr"
PHRASES = asked_phrases(EXAMPLES)
RIGHT = {p.prompt: p.answers[0] for p in PHRASES}


def run(api: FakeApi, *arguments: str) -> Result:
    with serving(api) as url:
        return CliRunner(env={"COLUMNS": "100"}).invoke(demo_command, ["--url", url, "--api-key", "sk-x", *arguments])


def learned(model: str, text: str) -> str:
    return RIGHT[text] if model == FINAL and text != PHRASES[-1].prompt else "[bold]nothing\x1b[2J"


def test_the_demo_asks_before_and_after_and_counts() -> None:
    api = FakeApi(whole_run(), learned, tuned=FINAL)
    result = run(api)
    assert result.exit_code == 0, result.output
    assert "0 of 12 right" in result.output
    assert "11 of 12 right" in result.output
    assert "[bold]nothing[2J" in result.output
    assert "\x1b" not in result.output
    chats = [body["model"] for _, path, body in api.requests if path.endswith("/completions")]
    assert chats == [MODEL] * 12 + [FINAL] * 12
    (created,) = [body for method, path, body in api.requests if method == "POST" and path.endswith("/jobs")]
    assert created["model"] == MODEL
    assert created["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 5}}}
    assert "Data flow" in result.output
    assert "import time, openai" in result.output


def test_a_failed_job_ends_the_demo_with_its_reason() -> None:
    result = run(FakeApi([], learned, status="failed"))
    assert result.exit_code == 1
    assert "The job ended as failed: it broke" in result.output


def test_a_named_server_that_does_not_answer_is_a_sentence() -> None:
    result = CliRunner().invoke(demo_command, ["--url", "http://127.0.0.1:9", "--api-key", "sk-x"])
    assert isinstance(result.exception, Unavailable)
    assert "No server is ready at http://127.0.0.1:9" in result.exception.message


def test_examples_are_found_in_the_checkout_or_named(tmp_path: Path) -> None:
    assert example_folder(None) == EXAMPLES
    with pytest.raises(InvalidRequest, match="lacks"):
        example_folder(tmp_path)


def test_without_a_checkout_the_demo_says_where_examples_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.cli.demo.PACKAGE_DIR", tmp_path / "lib" / "luthier")
    with pytest.raises(InvalidRequest, match="--examples DIR"):
        example_folder(None)


def test_six_lines_are_six_lines_of_python() -> None:
    text = six_lines(DemoServer(Server("http://127.0.0.1:1", "sk-secret"), None, 0.0))
    assert len(text.splitlines()) == 6
    assert "sk-secret" not in text
    compile(text, "six", "exec")


FAKE_SERVE = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
server = HTTPServer(("127.0.0.1", 0), Handler)
folder = sys.argv[1]
os.makedirs(folder)
open(os.path.join(folder, "api_key"), "w").write("sk-child")
url = f"http://127.0.0.1:{server.server_address[1]}"
open(os.path.join(folder, "server.json"), "w").write(json.dumps({"url": url, "pid": os.getpid()}))
server.serve_forever()
"""


def replace_command(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def start(folder: Path, *, keep: bool) -> server_module.subprocess.Popen[bytes]:
        with (folder / "serve.log").open("wb") as log:
            return server_module.subprocess.Popen([sys.executable, "-c", code, str(folder / "data")], stdout=log, stderr=log)

    monkeypatch.setattr(server_module, "_start", start)


def is_alive(url: str) -> bool:
    return server_module.is_ready(url)


def test_an_own_server_is_started_used_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_command(monkeypatch, FAKE_SERVE)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "nothing-here"))
    with demo_server(url=None, api_key=None, data_dir=None, keep=False) as started:
        assert started.server.key == "sk-child"
        assert started.data_dir is not None
        assert is_alive(started.server.url)
    assert not is_alive(started.server.url)
    assert not started.data_dir.exists()


def test_an_own_server_is_removed_after_an_error_even_when_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_command(monkeypatch, FAKE_SERVE)
    seen: list[DemoServer] = []

    def fail_within() -> None:
        with demo_server(url=None, api_key=None, data_dir=tmp_path, keep=True) as started:
            seen.append(started)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_within()
    assert not is_alive(seen[0].server.url)


def test_a_kept_server_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_command(monkeypatch, FAKE_SERVE)
    with demo_server(url=None, api_key=None, data_dir=tmp_path, keep=True) as started:
        pass
    assert started.data_dir is not None
    pid = int(server_module.json.loads((started.data_dir / "data" / "server.json").read_text())["pid"])
    try:
        assert is_alive(started.server.url)
    finally:
        os.kill(pid, 9)
        server_module.shutil.rmtree(started.data_dir)


def test_a_server_that_cannot_start_is_told_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_command(monkeypatch, "print('no room left'); raise SystemExit(3)")
    with (
        pytest.raises(Unavailable, match=r"exit code 3[^$]*no room left"),
        demo_server(url=None, api_key=None, data_dir=tmp_path, keep=False),
    ):
        pass


def test_a_running_server_is_used_and_left_alone(tmp_path: Path) -> None:
    with serving(FakeApi([], learned)) as url:
        (tmp_path / "api_key").write_text("sk-there", encoding="utf-8")
        (tmp_path / "server.json").write_text(server_module.json.dumps({"url": url}), encoding="utf-8")
        with demo_server(url=None, api_key=None, data_dir=tmp_path, keep=False) as started:
            assert started.server == Server(url, "sk-there")
            assert started.data_dir is None
        assert is_alive(url)


def test_marks_follow_the_committed_answers() -> None:
    assert Phrase("x", ("Au revoir",)).accepts("au revoir !")
    assert not Phrase("x", ("Au revoir",)).accepts("au revoir à tous")
