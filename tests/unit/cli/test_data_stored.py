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


def test_a_repair_and_a_split_store_files(server: ApiServer, run: Run, tmp_path: Path) -> None:
    result = run("data", "fix", stored(server, SOUND.replace("}\n", ",}\n") * 3, purpose="user_data"))
    assert result.exit_code == 0, result.stderr
    assert "trailing comma" in result.stdout
    repaired = result.stdout.rsplit("\n", 2)[-2].split(":")[0]
    assert text_of(server, repaired) == SOUND * 3
    diff = tmp_path / "a.diff"
    asked = ("data", "fix", stored(server, SOUND + SOUND.replace("}\n", ",}\n"), purpose="user_data"), "--diff", str(diff))
    assert run(*asked).exit_code == 0
    assert diff.read_text(encoding="utf-8").splitlines()[2:] == ["@@ -2 +2 @@", "-" + SOUND[:-2] + ",}", "+" + SOUND.rstrip()]
    result = run(*asked)
    assert (result.exit_code, "exists already, and nothing is ever overwritten" in result.stderr) == (2, True)
    result = run("data", "fix", stored(server, SOUND + "{nope\n", purpose="user_data"))
    assert result.exit_code == 5
    copy = result.stdout.rsplit("\n", 2)[-2].split(":")[0]
    assert (
        f"No cure makes JSON objects of 1 line; they stand in the copy as they were. See them: luthier data check {copy}" in result.stderr
    )
    rows = "".join(SOUND.replace("hi", f"{chr(97 + i)}{chr(98 + i)} {chr(99 + i)}") for i in range(20))
    task = json.loads(run("data", "split", stored(server, rows), "--valid", "0.25", "--json").stdout)
    sides = [text_of(server, task["result"]["files"][side]).count("\n") for side in ("training", "validation")]
    assert sides == [15, 5]
    result = run("data", "split", stored(server, rows), "--valid", "0.25", "--group-by", "customer")
    assert "No row is one of a stored completion with the metadata customer" in result.stderr


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
    cut_off = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    for number, said in enumerate((completion, cut_off)):
        server.services.stored_completions.add(
            StoredCompletion(id=f"chatcmpl-{number}", created_at=1, model=BASE, completion=said, messages=(asked,), metadata={"task": "x"})
        )
    result = run("data", "import", "--stored-completions", "--metadata", "task=x")
    assert "Left out: 1 of 2 answers, which are empty, were cut off" in result.stderr
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


FORECAST = ("jobs", "forecast", "--seconds", "0", "--json")


def test_a_job_over_stored_files_is_forecast_by_the_server(server: ApiServer, run: Run, tmp_path: Path) -> None:
    training, validation = stored(server, SOUND * 12), stored(server, SOUND * 3)
    numbers = ("--n-epochs", "2", "--batch-size", "4", "--rank", "4", "--max-length", "64", "--seed", "7")
    result = run(*FORECAST, "--training-file", training, "--validation-file", validation, *numbers)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    made = found["forecast"]
    assert (found["base"], found["method"], found["fits"], made["basis"]) == (BASE, "lora", True, "formula")
    assert (made["examples"], made["n_epochs"], made["batch_size"], made["total_steps"]) == (12, 2, 4, 6)
    task: Any = server.client().get("/luthier/datasets/tasks?limit=1", cast_to=object)
    options = task["data"][0]["options"]
    assert (options["luthier"], options["seed"]) == ({"adapter": "lora", "rank": 4, "max_length": 64}, 7)
    local = tmp_path / "train.jsonl"
    local.write_text(SOUND * 12)
    here = run(*FORECAST, "--training-file", str(local), *numbers, "--data-dir", str(tmp_path / "none"))
    assert json.loads(here.stdout)["forecast"]["tokens"] == made["tokens"], "the same rows, here and there"
    page = run("jobs", "forecast", "--seconds", "0", "--training-file", training)
    assert "12 x " in page.stdout
    assert "by formula" in page.stdout


def test_a_preference_job_is_forecast_by_the_server(server: ApiServer, run: Run) -> None:
    talk = {"input": {"messages": [{"role": "user", "content": "hi"}]}}
    answers = {
        f"{which}_output": [{"role": "assistant", "content": text}] for which, text in (("preferred", "hey"), ("non_preferred", "no"))
    }
    pairs = stored(server, (json.dumps({**talk, **answers}) + "\n") * 12)
    result = run(*FORECAST, "--training-file", pairs, "--method", "dpo", "--n-epochs", "1")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["forecast"]["n_epochs"] == 1
    wrong = run(*FORECAST, "--training-file", pairs)
    assert wrong.exit_code == 5
    assert "Example 1" in wrong.stderr


def test_what_cannot_be_forecast_says_so(server: ApiServer, run: Run, rows: Path) -> None:
    file = stored(server, SOUND * 12)
    for arguments, code, said in (
        (("--training-file", "file-none"), 4, "No such File object: file-none"),
        (("--training-file", stored(server, FAULTY * 12)), 5, "due to an invalid training file. Invalid file format. Example 1"),
        (("--training-file", file, "--validation-file", str(rows)), 2, "are both here, or both on the server"),
        (("--training-file", file, "--model", "nothing"), 5, "nothing"),
    ):
        result = run(*FORECAST, *arguments)
        assert (result.exit_code, result.stdout) == (code, ""), (arguments, result.stderr)
        assert said in " ".join(result.stderr.split())
    measured = run("jobs", "forecast", "--training-file", file, "--seconds", "3")
    assert measured.exit_code == 2
    assert "--seconds is 0 or left out" in measured.stderr
    away = run(*FORECAST, "--training-file", file, url="http://127.0.0.1:9")
    assert away.exit_code == 6
    assert "No server answers at http://127.0.0.1:9. Start one with: luthier serve" in away.stderr
