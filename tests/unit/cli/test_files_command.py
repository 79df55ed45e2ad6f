"""``luthier files``: each command against the real API, and what only other servers have against a scripted one."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.console import Console

from luthier.cli import upload as upload_module
from luthier.core.jobs import FileRecord
from tests.support.api_server import ApiServer
from tests.support.command_line import luthier, one_line
from tests.support.fake_server import FakeApi, serving
from tests.unit.cli.conftest import Run

OBJECT = {"object": "file", "bytes": 20, "created_at": 1, "filename": "big.jsonl", "purpose": "fine-tune", "status": "processed"}


def ids(result: Result) -> list[str]:
    return result.stdout.splitlines()


def test_an_upload_is_what_the_api_says_of_it(run: Run, server: ApiServer, rows: Path) -> None:
    result = run("files", "upload", str(rows), "--json")
    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    with server.http() as http:
        assert shown == http.get(f"/v1/files/{shown['id']}").json()
    assert (shown["filename"], shown["purpose"], shown["bytes"]) == ("train.jsonl", "fine-tune", rows.stat().st_size)


def test_quiet_prints_the_id_alone_and_tables_tell_in_words(run: Run, rows: Path) -> None:
    (file_id,) = ids(run("files", "upload", str(rows), "--purpose", "batch", "-q"))
    assert file_id.startswith("file-")
    table = run("files", "get", file_id).stdout
    for part in (file_id, "train.jsonl", "batch", f"{rows.stat().st_size} B", "just now"):
        assert part in table


def test_lists_are_pages_with_the_way_to_the_next(run: Run, server: ApiServer, rows: Path) -> None:
    made = [ids(run("files", "upload", str(rows), "--purpose", "evals", "-q"))[0] for _ in range(3)]
    first = run("files", "list", "--purpose", "evals", "--limit", "2", "-q")
    assert ids(first) == made[:0:-1]
    assert first.stderr == f"More: luthier files list --after {made[1]}\n"
    rest = run("files", "list", "--purpose", "evals", "--after", made[1], "--json")
    with server.http() as http:
        assert json.loads(rest.stdout) == http.get("/v1/files", params={"purpose": "evals", "after": made[1], "limit": 20}).json()
    assert [f["id"] for f in json.loads(rest.stdout)["data"]] == made[:1]
    table = run("files", "list", "--purpose", "evals").stdout
    assert all(file_id in table for file_id in made)


@pytest.mark.parametrize(("given", "kept"), [("3600", 3600), ("90m", 5400), ("12h", 43200), ("30d", 2_592_000), (" 7200s ", 7200)])
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_file_is_kept_as_long_as_asked(
    run: Run, rows: Path, monkeypatch: pytest.MonkeyPatch, given: str, kept: int, in_parts: bool
) -> None:
    if in_parts:
        monkeypatch.setattr(upload_module, "MAX_SINGLE_BYTES", 100)
    result = run("files", "upload", str(rows), "--expires-after", given, "--json")
    assert result.exit_code == 0, result.stderr
    file = json.loads(result.stdout)
    assert file["expires_at"] - file["created_at"] == kept
    assert run("files", "get", file["id"]).stdout.count("in ") >= 1


@pytest.mark.parametrize("given", ["3599", "59m", "31d", "-1", "1w", "soon", "", "1.5h", "3600 s", "٣٦٠٠"])
def test_no_other_time_is_taken(rows: Path, given: str) -> None:
    result = luthier("files", "upload", str(rows), "--expires-after", given, url="http://127.0.0.1:9")
    assert result.exit_code == 2
    one_line(result)


def test_an_empty_list_says_so_beside_the_output(run: Run) -> None:
    result = run("files", "list", "--purpose", "vision")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "Nothing there yet.\n")


def test_content_is_the_very_bytes(run: Run, rows: Path, tmp_path: Path) -> None:
    (file_id,) = ids(run("files", "upload", str(rows), "-q"))
    assert run("files", "content", file_id).stdout_bytes == rows.read_bytes()
    copy = tmp_path / "copy.jsonl"
    result = run("files", "content", file_id, "-o", str(copy))
    assert (result.stdout, copy.read_bytes()) == ("", rows.read_bytes())
    assert sorted(p.name for p in tmp_path.iterdir() if "copy" in p.name) == ["copy.jsonl"]


def test_metrics_come_as_the_api_sends_them_or_as_csv(run: Run, server: ApiServer) -> None:
    table = b"step,train_loss\n1,2.5\n"
    sha256, size = server.services.blobs.put(table)
    record = FileRecord(id="file-results", filename="m.csv", purpose="fine-tune-results", bytes=size, sha256=sha256, created_at=1)
    server.services.files.add(record)
    assert base64.b64decode(run("files", "content", "file-results").stdout_bytes) == table
    assert run("files", "content", "file-results", "--csv").stdout_bytes == table


def test_a_deleted_file_is_gone(run: Run, rows: Path) -> None:
    (file_id,) = ids(run("files", "upload", str(rows), "-q"))
    assert json.loads(run("files", "delete", file_id, "--json").stdout) == {"id": file_id, "object": "file", "deleted": True}
    result = run("files", "get", file_id)
    assert result.exit_code == 4
    assert one_line(result).endswith(f"No such File object: {file_id} Try: luthier files list")


def test_what_is_not_json_lines_is_refused_in_the_servers_words(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"a": 1}\n[1]\n')
    result = run("files", "upload", str(bad))
    assert result.exit_code == 5
    assert "Line 2 is not a dictionary" in one_line(result)


def test_a_missing_file_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    result = run("files", "upload", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert one_line(result).endswith("Try: luthier files upload --help")


class ManyParts(FakeApi):
    """A server with ``/v1/uploads`` and ``/v1/luthier/files/from_completions``."""

    def __init__(self) -> None:
        super().__init__([], lambda model, text: "")

    def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
        self.requests.append((method, path, body))
        upload = {"id": "upload_1", "object": "upload", "status": "pending", "filename": "big.jsonl", "purpose": "fine-tune", "bytes": 20}
        if path == "/v1/uploads":
            return 200, upload
        if path == "/v1/uploads/upload_1/parts":
            count = sum(p == path for _, p, _ in self.requests)
            return 200, {"id": f"part_{count}", "object": "upload.part", "created_at": 1, "upload_id": "upload_1"}
        if path == "/v1/uploads/upload_1/complete":
            return 200, {**upload, "status": "completed", "file": {"id": "file-big", **OBJECT}}
        if path == "/v1/luthier/files/from_completions":
            return 200, {"id": "file-made", **OBJECT, "luthier": {"rows": 1234, "left_out": 0}}
        return 404, {"error": {"message": f"Invalid URL ({method} {path})", "type": "invalid_request_error", "code": None, "param": None}}


def test_a_large_file_goes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "MAX_SINGLE_BYTES", 19)
    monkeypatch.setattr(upload_module, "PART_BYTES", 8)
    path = tmp_path / "big.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 10}\n\n')
    api = ManyParts()
    with serving(api) as url:
        result = luthier("files", "upload", str(path), "--json", url=url)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"id": "file-big", **OBJECT}
    created, *parts, completed = api.requests
    assert (created[2]["bytes"], created[2]["filename"], created[2]["purpose"]) == (20, "big.jsonl", "fine-tune")
    assert [p for _, p, _ in parts] == ["/v1/uploads/upload_1/parts"] * 3
    assert b'{"a": 1}' in parts[0][2]
    assert completed[2]["part_ids"] == ["part_1", "part_2", "part_3"]


def test_from_completions_sends_what_was_given() -> None:
    api = ManyParts()
    with serving(api) as url:
        result = luthier(
            "files", "from-completions", "--metadata", "task=a=b", "--metadata", "x=", "--model", "m", "--filename", "f", "-q", url=url
        )
        table = luthier("files", "from-completions", "--metadata", "task=a", url=url).stdout
    assert ids(result) == ["file-made"]
    assert [line.split() for line in table.splitlines()][-2:] == [["rows", "1,234"], ["left", "out", "0"]]
    path = "/v1/luthier/files/from_completions"
    assert api.requests == [
        ("POST", path, {"metadata": {"task": "a=b", "x": ""}, "model": "m", "filename": "f"}),
        ("POST", path, {"metadata": {"task": "a"}}),
    ]


@pytest.mark.parametrize("given", [[], ["--metadata", "task"], ["--metadata", "=x"], ["--metadata", "a=1", "--metadata", "a=2"]])
def test_metadata_is_checked_before_anything_is_sent(given: list[str]) -> None:
    result = luthier("files", "from-completions", *given, url="http://127.0.0.1:9")
    assert result.exit_code == 2
    one_line(result)


def test_an_endpoint_that_a_server_lacks_is_told(tmp_path: Path) -> None:
    with serving(FakeApi([], lambda model, text: "")) as url:
        result = luthier("files", "from-completions", "--metadata", "task=a", url=url)
    assert result.exit_code == 4
    api = ManyParts()
    with serving(api) as url:
        result = luthier("files", "get", "file-1", url=url)
    assert result.exit_code == 4
    assert "This server does not have GET /v1/files/file-1." in one_line(result)


def test_a_bar_comes_after_two_seconds_and_only_to_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(terminal: bool, now: float) -> str:
        out = io.StringIO()
        console = Console(file=out, force_terminal=terminal, width=80)
        monkeypatch.setattr(upload_module, "Console", lambda stderr: console)
        clock = iter([0.0, now])
        with upload_module._bar("a[b].jsonl", 100, clock=lambda: next(clock)) as moved:
            moved(50)
        return out.getvalue()

    assert written(True, 1.0) == ""
    assert written(False, 3.0) == ""
    assert "uploading a[b].jsonl" in written(True, 3.0)


def test_a_real_server_takes_parts(run: Run, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_module, "MAX_SINGLE_BYTES", 100)
    monkeypatch.setattr(upload_module, "PART_BYTES", 300)
    result = run("files", "upload", str(rows), "-q")
    assert result.exit_code == 0, result.stderr
    assert run("files", "content", result.stdout.strip()).stdout_bytes == rows.read_bytes()


def test_a_real_server_makes_a_file_of_stored_completions(run: Run, server: ApiServer) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    server.client().chat.completions.create(model="luthier-mini", messages=messages, store=True, metadata={"task": "greet"})
    result = run("files", "from-completions", "--metadata", "task=greet", "--filename", "greet.jsonl", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["luthier"]["rows"] == 1
    assert run("files", "from-completions", "--metadata", "task=other").exit_code == 5
