"""``luthier batches``: from a local file to its answers."""

import json
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.command_line import one_line
from tests.support.fake_engine import BASE
from tests.unit.cli.conftest import Run


def requests(folder: Path, *bodies: dict[str, object]) -> str:
    path = folder / "requests.jsonl"
    said = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
    rows = [
        {"custom_id": f"r{i}", "method": "POST", "url": "/v1/chat/completions", "body": {**said, **body}} for i, body in enumerate(bodies)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_local_file_becomes_answers(run: Run, tmp_path: Path) -> None:
    made = run("batches", "create", requests(tmp_path, {}, {"temperature": 9}, {}), "--metadata", "night=1", "--wait")
    assert made.exit_code == 0
    shown = " ".join(made.stdout.split())
    for text in ("status completed", "answered 2 of 3, 1 failed", "night=1", f"model {BASE}"):
        assert text in shown
    batch_id = run("batches", "list", "-q", "--limit", "1").stdout.strip()
    answers = [json.loads(line) for line in run("batches", "results", batch_id).stdout.splitlines()]
    assert {row["custom_id"] for row in answers} == {"r0", "r2"}
    failed = [json.loads(line) for line in run("batches", "results", batch_id, "--errors").stdout.splitlines()]
    assert [row["custom_id"] for row in failed] == ["r1"]
    assert run("batches", "wait", batch_id, "-q").stdout == batch_id + "\n"
    assert run("batches", "cancel", batch_id).exit_code == 1


def test_json_is_the_apis(run: Run, server: ApiServer, tmp_path: Path) -> None:
    batch = json.loads(run("batches", "create", requests(tmp_path, {}), "--wait", "--json").stdout)
    with server.http() as http:
        assert json.loads(run("batches", "get", batch["id"], "--json").stdout) == http.get(f"/v1/batches/{batch['id']}").json()
    nothing = run("batches", "results", batch["id"], "--errors")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "has no failed requests" in nothing.stderr


def test_a_faulty_file_ends_with_the_code_of_invalid_data_and_its_lines(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"custom_id": "a"}\n{no\n')
    result = run("batches", "create", str(path), "--wait")
    assert result.exit_code == 5
    told = " ".join(result.stderr.split())
    assert "line 1: Missing required parameter: 'method'.; line 2: This line is not parseable as valid JSON." in told


@pytest.mark.parametrize(("arguments", "code"), [(("create", "nowhere.jsonl"), 2), (("get", "batch_x"), 4), (("create", "file-x"), 4)])
def test_what_is_not_there_ends_with_its_code(run: Run, arguments: tuple[str, ...], code: int) -> None:
    result = run("batches", *arguments)
    assert result.exit_code == code
    assert "luthier " in one_line(result)
