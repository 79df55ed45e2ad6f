"""``luthier data`` with the id of a stored file: the server does the work, and the command shows it as it shows local work."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.core.stored_completions import StoredCompletion
from tests.support.api_server import ApiServer
from tests.support.data_worker import DataWorker
from tests.support.fake_engine import BASE
from tests.unit.cli.conftest import Run

SOUND = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
FAULTY = '{"messages": [{"role": "user", "content": "hi"}, {"content": "hello"}]}\n'


@pytest.fixture(autouse=True)
def _worker(server: ApiServer) -> Iterator[None]:
    with DataWorker(server.services.settings):
        yield


def stored(server: ApiServer, text: str, name: str = "rows.jsonl", purpose: Any = "fine-tune") -> str:
    return server.client().files.create(file=(name, text.encode()), purpose=purpose).id


def text_of(server: ApiServer, file_id: str) -> str:
    return server.client().files.content(file_id).text


def test_a_check_ends_with_5_and_has_its_page_its_json_and_its_csv(server: ApiServer, run: Run, tmp_path: Path) -> None:
    file, table = stored(server, SOUND + FAULTY * 60), tmp_path / "faults.csv"
    result = run("data", "check", file, "--csv", str(table))
    assert result.exit_code == 5
    assert result.stdout.count("messages[1].role") == 50
    assert f"luthier: {file} has 60 faults." in result.stderr
    with table.open(encoding="utf-8", newline="") as lines:
        assert [line["line"] for line in csv.DictReader(lines)] == [str(number) for number in range(2, 62)]
    (report,) = json.loads(run("data", "check", file, "--json").stdout)["data"]
    assert (report["num_faults"], len(report["findings"])) == (60, 60)
    assert run("data", "check", stored(server, SOUND * 10), "-q").exit_code == 0


def test_a_repair_and_a_split_store_files(server: ApiServer, run: Run) -> None:
    result = run("data", "fix", stored(server, SOUND.replace("}\n", ",}\n") * 3, purpose="user_data"))
    assert result.exit_code == 0, result.stderr
    assert "trailing comma" in result.stdout
    repaired = result.stdout.rsplit("\n", 2)[-2].split(":")[0]
    assert text_of(server, repaired) == SOUND * 3
    rows = "".join(SOUND.replace("hi", f"{chr(97 + i)}{chr(98 + i)} {chr(99 + i)}") for i in range(20))
    task = json.loads(run("data", "split", stored(server, rows), "--valid", "0.25", "--json").stdout)
    sides = [text_of(server, task["result"]["files"][side]).count("\n") for side in ("training", "validation")]
    assert sides == [15, 5]


def test_tables_and_stored_completions_are_imported_and_exported(server: ApiServer, run: Run) -> None:
    result = run("data", "import", stored(server, "question,answer\nq,a\nr,\n", "t.csv", "user_data"))
    assert result.exit_code == 5
    assert "line 3: 'answer', the completion, is empty." in result.stderr
    assert "leave them out with --skip-bad" in result.stderr
    result = run("data", "import", stored(server, "question,answer\nq,a\n", "t.csv", "user_data"))
    assert result.stderr == "columns: question -> prompt, answer -> completion\n"
    imported = result.stdout.split(":")[0]
    exported = run("data", "export", imported, "--to", "csv").stdout.split(":")[0]
    assert text_of(server, exported) == "system,prompt,completion\n,q,a\n"
    message = {"role": "assistant", "content": "hello"}
    completion = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    asked = {"role": "user", "content": "hi"}
    server.services.stored_completions.add(
        StoredCompletion(id="chatcmpl-1", created_at=1, model=BASE, completion=completion, messages=(asked,), metadata={"task": "x"})
    )
    result = run("data", "import", "--stored-completions", "--metadata", "task=x")
    assert text_of(server, result.stdout.split(":")[0]) == SOUND.replace(": ", ":").replace(", ", ",")
    assert run("data", "import", "--stored-completions", "--metadata", "task=none").exit_code == 5


def test_rows_are_shown_and_examined(server: ApiServer, run: Run) -> None:
    file = stored(server, SOUND * 12)
    result = run("data", "show", file, "--line", "2")
    assert result.exit_code == 0, result.stderr
    assert f"{file}, line 2  chat row, read by luthier-mini" in result.stdout
    assert json.loads(run("data", "show", file, "--json").stdout)["data"][0]["line"] == 1
    shown = json.loads(run("data", "show", file, "--packing", "--json").stdout)["data"][0]
    assert shown["packing"]["num_examples"] == 12
    assert shown["sequences"][0]["placement"]["num_shared_with"] == 11
    result = run("data", "doctor", file, "--json")
    assert "exact_duplicate" in {finding["code"] for finding in json.loads(result.stdout)["findings"]}
    result = run("data", "redact", stored(server, SOUND.replace("hello", "bob@mail.org")))
    assert "emails" in result.stdout
    assert "[EMAIL_1]" in text_of(server, result.stdout.splitlines()[-1].split(":")[0])


def test_a_file_that_the_server_does_not_have_is_4(run: Run) -> None:
    result = run("data", "check", "file-none")
    assert result.exit_code == 4
    assert "No such File object: file-none" in result.stderr
