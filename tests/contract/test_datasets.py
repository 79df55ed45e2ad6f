"""Dataset tasks over the wire, with the official client's own ``post`` and ``get``: every kind, every refusal, findings whole."""

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from luthier.api.schemas.dataset_results import RESULTS
from luthier.core.stored_completions import StoredCompletion
from tests.support.api_server import ApiServer
from tests.support.data_worker import DataWorker
from tests.support.fake_engine import BASE

KINDS = ("check", "doctor", "fix", "redact", "split", "import", "export", "preview", "forecast")


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server with a worker for its dataset tasks."""
    server = ApiServer(tmp_path_factory.mktemp("api") / "data")
    with DataWorker(server.services.settings):
        yield server
    server.stop()


@pytest.fixture
def client(server: ApiServer) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server whose worker is away."""
    server = ApiServer(tmp_path_factory.mktemp("idle") / "data")
    yield server
    server.stop()


def post(client: openai.OpenAI, path: str, **body: Any) -> dict[str, Any]:
    answer: Any = client.post(f"/luthier/datasets/{path}", body=body, cast_to=object)
    return answer


def get(client: openai.OpenAI, path: str, **query: Any) -> dict[str, Any]:
    answer: Any = client.get(f"/luthier/datasets/{path}", cast_to=object, options={"params": query})
    return answer


def row(question: str, answer: str = "yes") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def jsonl(rows: list[Any]) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in rows)


def uploaded(client: openai.OpenAI, data: bytes, name: str = "rows.jsonl", purpose: Any = "fine-tune") -> str:
    return client.files.create(file=(name, data), purpose=purpose).id


def words(count: int) -> list[Any]:
    """Rows whose questions share no words that tell them apart."""
    return [row(" ".join(f"w{number}x{k}" for k in range(8))) for number in range(count)]


def completed(task: dict[str, Any]) -> dict[str, Any]:
    assert task["object"] == "luthier.dataset_task"
    assert task["status"] == "completed", task
    assert (task["error"], task["progress"]) == (None, None)
    assert task["finished_at"] >= task["created_at"]
    if task["kind"] in RESULTS:
        RESULTS[task["kind"]].model_validate_json(json.dumps(task["result"]), strict=True)
    return task["result"]


def text_of(client: openai.OpenAI, file_id: str) -> str:
    return client.files.content(file_id).text


def test_a_sound_file_is_checked_at_once(client: openai.OpenAI) -> None:
    task = post(client, "check", file_id=uploaded(client, jsonl(words(10))))
    result = completed(task)
    assert (result["ok"], result["num_faults"], result["findings"], task["num_findings"]) == (True, 0, [], 0)
    assert (result["format"], result["counts"]["rows"]) == ("chat", 10)
    assert get(client, f"tasks/{task['id']}") == task


def test_every_fault_of_a_file_comes_as_json_and_as_csv(client: openai.OpenAI) -> None:
    faulty = [{"messages": [{"role": "bot", "content": "=1+1"}]} for _ in range(70)]
    task = post(client, "check", file_id=uploaded(client, jsonl([*words(10), *faulty])), role="training", method="supervised")
    result = completed(task)
    assert not result["ok"]
    assert len(result["findings"]) == 50
    assert task["num_findings"] == result["num_faults"] + result["num_warnings"] >= 70
    whole = get(client, f"tasks/{task['id']}/findings")
    assert (whole["object"], whole["has_more"], len(whole["data"])) == ("list", False, task["num_findings"])
    assert whole["data"][:50] == result["findings"]
    first = whole["data"][0]
    assert (first["line"], first["path"], first["code"]) == (11, "messages[0].role", "unknown_role")
    table = client.get(f"/luthier/datasets/tasks/{task['id']}/findings", cast_to=str, options={"params": {"format": "csv"}})
    lines = list(csv.DictReader(io.StringIO(table)))
    assert [line["line"] for line in lines] == [str(finding["line"]) for finding in whole["data"]]
    assert lines[0]["code"] == "unknown_role"


def test_a_broken_file_is_mended_and_then_sound(client: openai.OpenAI) -> None:
    broken = [json.dumps(one).encode().replace(b"]}", b"],}") for one in words(10)]
    task = post(client, "fix", file_id=uploaded(client, jsonl(broken), purpose="user_data"), diff=True)
    result = completed(task)
    assert result["changes"] == {"trailing comma": {"count": 10, "first": list(range(1, 11))}}
    repaired = client.files.retrieve(result["files"]["repaired"])
    assert (repaired.filename, repaired.purpose) == ("rows.fixed.jsonl", "fine-tune")
    assert [json.loads(line) for line in text_of(client, repaired.id).splitlines()] == words(10)
    assert text_of(client, result["files"]["diff"]).startswith("--- rows.jsonl\n+++ fixed.jsonl\n")
    assert completed(post(client, "check", file_id=repaired.id))["ok"]


def test_what_no_cure_mends_is_no_file_for_fine_tuning(client: openai.OpenAI) -> None:
    result = completed(post(client, "fix", file_id=uploaded(client, b"{nope\n", purpose="user_data"), filename="mine.jsonl"))
    assert result["still_broken"] == {"count": 1, "first": [1]}
    file = client.files.retrieve(result["files"]["repaired"])
    assert (file.purpose, file.filename, file.bytes) == ("user_data", "mine.jsonl", 6)


def test_a_split_keeps_groups_together_and_makes_two_files(client: openai.OpenAI) -> None:
    rows = words(40)
    result = completed(post(client, "split", file_id=uploaded(client, jsonl([*rows, *rows])), valid=0.25, seed=3))
    assert (result["training_rows"], result["validation_rows"], result["rows_that_share_a_group"]) == (60, 20, 80)
    sides = [set(text_of(client, result["files"][side]).splitlines()) for side in ("training", "validation")]
    assert not sides[0] & sides[1]
    assert client.files.retrieve(result["files"]["validation"]).filename == "rows.valid.jsonl"


def test_tables_and_talks_are_imported_and_exported_back(client: openai.OpenAI) -> None:
    table = b"question,answer,id\nWhat is it?,A lamp.,1\nHow old?,Two years.,2\n"
    result = completed(post(client, "import", file_id=uploaded(client, table, "faq.csv", "user_data")))
    assert (result["rows"], result["left_out"]) == (2, 0)
    assert result["notes"][0] == "columns: question -> prompt, answer -> completion; not used: id"
    training = client.files.retrieve(result["files"]["training"])
    assert (training.filename, training.purpose) == ("faq.jsonl", "fine-tune")
    for form, ending in (("csv", ".csv"), ("alpaca", ".json"), ("sharegpt", ".json")):
        out = completed(post(client, "export", file_id=training.id, format=form))
        exported = client.files.retrieve(out["files"]["exported"])
        assert (out["rows"], exported.filename, exported.purpose) == (2, f"faq{ending}", "user_data")
        again = completed(post(client, "import", file_id=exported.id))
        assert text_of(client, again["files"]["training"]) == text_of(client, training.id)


def test_rows_that_do_not_fit_fail_the_task_with_their_places(client: openai.OpenAI) -> None:
    table = uploaded(client, b"prompt,completion\na,b\nc,\n", "gaps.csv", "user_data")
    files_before = len(client.files.list().data)
    task = post(client, "import", file_id=table)
    assert (task["status"], task["error"]["code"], task["error"]["param"]) == ("failed", "invalid_rows", None)
    assert "'skip_bad': true" in task["error"]["message"]
    assert any(note.startswith("line 3") for note in task["result"]["notes"])
    assert len(client.files.list().data) == files_before
    assert completed(post(client, "import", file_id=table, skip_bad=True))["left_out"] == 1


def test_a_mapping_is_obeyed_and_an_unknown_ending_is_said(client: openai.OpenAI) -> None:
    table = uploaded(client, b"q,a\nx,y\n", "t.csv", "user_data")
    result = completed(post(client, "import", file_id=table, map={"prompt": "a", "completion": "q"}))
    assert json.loads(text_of(client, result["files"]["training"]))["messages"][0]["content"] == "y"
    failed = post(client, "import", file_id=uploaded(client, b"x", "t.xyz", "user_data"))
    assert failed["error"]["code"] == "invalid_request"
    assert "t.xyz" in failed["error"]["message"]


def stored(server: ApiServer, name: str, question: str, **metadata: str) -> None:
    message = {"role": "assistant", "content": f"About {question}", "refusal": None}
    server.services.stored_completions.add(
        StoredCompletion(
            id=f"chatcmpl-{name}",
            created_at=1,
            model=BASE,
            completion={"id": name, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
            messages=({"role": "user", "content": question},),
            metadata=metadata,
        )
    )


def test_stored_completions_are_imported_and_split_by_what_they_belong_to(client: openai.OpenAI, server: ApiServer) -> None:
    for customer in range(10):
        for turn in range(4):
            question = " ".join(f"c{customer}t{turn}k{k}" for k in range(8))
            stored(server, f"{customer}-{turn}", question, task="support", customer=f"c{customer}")
    wanted = {"metadata": {"task": "support"}}
    result = completed(post(client, "import", stored_completions=wanted))
    assert (result["rows"], result["left_out"], result["completions_read"]) == (40, 0, 40)
    few = completed(post(client, "import", stored_completions={"ids": ["chatcmpl-3-1", "chatcmpl-0-0"]}, filename="few.jsonl"))
    assert "c3t1k0" in text_of(client, few["files"]["training"]).splitlines()[0]
    named = {"file_id": result["files"]["training"]}
    for source in ({"stored_completions": wanted}, named):
        done = completed(post(client, "split", **source, group_by=["customer"], valid=0.2))
        assert (done["groups"], done["rows_with_a_key"], done["largest_group"]) == (10, 40, 4)
        sides = [text_of(client, done["files"][side]) for side in ("training", "validation")]
        assert [sum(f"c{customer}t" in side for customer in range(10)) for side in sides] == [8, 2]
    assert completed(post(client, "split", **named, valid=0.2))["groups"] == 40


def test_the_doctor_finds_what_is_sound_and_teaches_the_wrong_thing(client: openai.OpenAI) -> None:
    rows = [*words(12), row("Who is it?", "bob@mail.org"), row("Who is it?", "eve@mail.org"), row("Who is it?", "bob@mail.org")]
    file, validation = uploaded(client, jsonl(rows)), uploaded(client, jsonl(rows[:3]))
    task = post(client, "doctor", file_id=file, validation_file_id=validation, wait_seconds=60)
    result = completed(task)
    codes = {finding["code"] for finding in result["findings"]}
    assert {"exact_duplicate", "email_address"} <= codes, codes
    whole = get(client, f"tasks/{task['id']}/findings")["data"]
    assert whole == result["findings"]
    table = client.get(f"/luthier/datasets/tasks/{task['id']}/findings", cast_to=str, options={"params": {"format": "csv"}})
    assert [line["code"] for line in csv.DictReader(io.StringIO(table))] == [finding["code"] for finding in whole]


def test_private_values_are_replaced(client: openai.OpenAI) -> None:
    file = uploaded(client, jsonl([row("Who?", "bob@mail.org"), row("And?", "bob@mail.org or 81.2.69.142")]))
    result = completed(post(client, "redact", file_id=file))
    assert (result["changed_lines"], result["kinds"]["emails"]["values"], result["kinds"]["emails"]["different"]) == (2, 2, 1)
    text = text_of(client, result["files"]["redacted"])
    assert "[EMAIL_1]" in text
    assert "bob" not in text
    mails_only = completed(post(client, "redact", file_id=file, kinds=["emails"]))
    assert "81.2.69.142" in text_of(client, mails_only["files"]["redacted"])


def test_a_row_is_shown_as_its_tokens(client: openai.OpenAI) -> None:
    file = uploaded(client, jsonl([row("one"), row("hello there", "general")]))
    result = completed(post(client, "preview", file_id=file, model="gpt-4o-mini", line=2))
    assert (result["line"], result["ok"], result["file"], result["model"]) == (2, True, file, "gpt-4o-mini-2024-07-18")
    (sequence,) = result["sequences"]
    trained = "".join(token["text"] for token in sequence["tokens"] if token["kind"] == "trained")
    assert "general" in trained
    assert "hello" not in trained
    failed = post(client, "preview", file_id=file, model=BASE, line=3)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "invalid_request")


def test_a_job_is_forecast(client: openai.OpenAI) -> None:
    file = uploaded(client, jsonl(words(12)))
    asked = {"training_file": file, "model": "gpt-4o-mini", "hyperparameters": {"n_epochs": 2}, "dry_run": False}
    result = completed(post(client, "forecast", **asked, wait_seconds=60))
    assert result["fits"]
    assert result["base"] == BASE
    assert {"batch_size", "learning_rate"} <= {decision["name"] for decision in result["decisions"]}
    assert result["forecast"]["tokens"] > 0
    # A whole job's own options, and its method: what says nothing of the work is no hindrance.
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}}}
    asked = {"training_file": file, "model": BASE, "method": method, "luthier": {"priority": 1, "rank": 4}, "dry_run": False}
    assert completed(post(client, "forecast", **asked, wait_seconds=60))["forecast"]["n_epochs"] == 3
    for wrong, param in (
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
        ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
        ({"luthier": {"adapter": "full", "rank": 4}}, "luthier.rank"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            post(client, "forecast", training_file=file, model=BASE, **wrong)
        assert refused.value.param == param
    with pytest.raises(openai.BadRequestError) as error:
        post(client, "forecast", training_file=file, model="no-such-model")
    assert error.value.code == "model_not_available"
    with pytest.raises(openai.NotFoundError) as missing:
        post(client, "preview", file_id=file, model="no-such-model")
    assert missing.value.code == "model_not_found"


def test_an_id_that_is_none_fails_the_task(client: openai.OpenAI) -> None:
    task = post(client, "import", stored_completions={"ids": ["chatcmpl-none"]})
    assert (task["status"], task["error"]["param"]) == ("failed", "stored_completions.ids")
    task = post(client, "import", stored_completions={"metadata": {"task": "nothing"}})
    assert task["error"]["message"].startswith("No stored chat completion matches.")


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        ("check", {}, "file_id", "missing_required_parameter"),
        ("check", {"file_id": "FILE", "role": "test"}, "role", "invalid_value"),
        ("check", {"file_id": "FILE", "wait_seconds": 61}, "wait_seconds", "decimal_above_max_value"),
        ("check", {"file_id": "FILE", "model": "x"}, "model", "unknown_parameter"),
        ("split", {"file_id": "FILE", "valid": 1}, "valid", "decimal_above_max_value"),
        ("split", {"file_id": "FILE", "stored_completions": {}}, "file_id", "invalid_parameter_combination"),
        ("split", {}, "file_id", "invalid_parameter_combination"),
        ("import", {}, "file_id", "invalid_parameter_combination"),
        ("import", {"source": "/etc/passwd"}, "source", "invalid_value"),
        ("import", {"source": "hf://a/b"}, "source", "unsupported_value"),
        ("import", {"file_id": "FILE", "map": {"question": "q"}}, "map", "invalid_value"),
        ("import", {"file_id": "FILE", "filename": "rows.csv"}, "filename", None),
        ("export", {"file_id": "FILE", "format": "xml"}, "format", "invalid_value"),
    ],
)
def test_what_is_wrong_with_a_request_is_400_and_named(client: openai.OpenAI, path: str, body: Any, param: str, code: str | None) -> None:
    if body.get("file_id") == "FILE":
        body = {**body, "file_id": uploaded(client, jsonl(words(1)))}
    with pytest.raises(openai.BadRequestError) as error:
        post(client, path, **body)
    assert (error.value.param, error.value.code) == (param, code)


@pytest.mark.parametrize("path", KINDS)
def test_a_file_that_is_not_there_is_404(client: openai.OpenAI, path: str) -> None:
    field = "training_file" if path == "forecast" else "file_id"
    needed = {"export": {"format": "csv"}, "preview": {"model": BASE}, "forecast": {"model": BASE}}
    with pytest.raises(openai.NotFoundError) as error:
        post(client, path, **{field: "file-none"}, **needed.get(path, {}))
    assert (error.value.message.partition(" - ")[2] and error.value.param) == field
    assert "No such File object: file-none" in error.value.message


def test_tasks_wait_for_a_worker_and_are_listed_and_cancelled(idle: ApiServer) -> None:
    client = idle.client()
    file = uploaded(client, jsonl(words(1)))
    # Nobody is there to wait for: an answer that waited would come after the client has given up.
    first, second = (post(client, path, file_id=file, wait_seconds=60) for path in ("check", "fix"))
    assert [task["status"] for task in (first, second)] == ["queued", "queued"]
    assert first["options"] == {"file_id": file, "role": "training"}
    page = get(client, "tasks", limit=1)
    assert (page["data"], page["has_more"], page["last_id"]) == ([second], True, second["id"])
    assert get(client, "tasks", limit=5, after=second["id"])["data"] == [first]
    assert get(client, "tasks", kind="check")["data"] == [first]
    with pytest.raises(openai.BadRequestError, match="is queued"):
        get(client, f"tasks/{first['id']}/findings")
    gone = post(client, f"tasks/{first['id']}/cancel")
    assert gone["status"] == "cancelled"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a dataset task with status 'cancelled'"):
        post(client, f"tasks/{first['id']}/cancel")
    for path in ("tasks/dstask-none", "tasks/dstask-none/findings"):
        with pytest.raises(openai.NotFoundError, match="No such dataset task: dstask-none"):
            get(client, path)


def test_who_uses_a_file_is_told_of_all_jobs(idle: ApiServer) -> None:
    client = idle.client()
    file, other = (uploaded(client, jsonl(words(10 + extra))) for extra in (0, 1))
    jobs = [client.fine_tuning.jobs.create(model=BASE, training_file=file, validation_file=other, suffix=f"no{n}").id for n in range(2)]
    client.fine_tuning.jobs.cancel(jobs[1])
    (use,) = get(client, "uses", file_id=file)["data"]
    named = [{"id": jobs[0], "suffix": "no0", "status": "validating_files"}, {"id": jobs[1], "suffix": "no1", "status": "cancelled"}]
    assert use == {"object": "luthier.dataset_use", "file_id": file, "jobs": 2, "unfinished": 1, "named": named}
    every = {one["file_id"]: one for one in get(client, "uses")["data"]}
    assert every[file] == use
    assert every[other] == {**use, "file_id": other}
    assert get(client, "uses", file_id="file-none")["data"] == []


def test_a_file_deleted_meanwhile_breaks_nothing(idle: ApiServer, tmp_path: Path) -> None:
    client = idle.client()
    file = uploaded(client, jsonl(words(10)))
    task = post(client, "check", file_id=file)
    client.files.delete(file)
    with DataWorker(idle.services.settings):
        deadline = time.monotonic() + 30
        while (task := get(client, f"tasks/{task['id']}"))["status"] in ("queued", "running"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert completed(task)["ok"]
