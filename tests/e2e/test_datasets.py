"""A broken file on its way to a job, over the API of a real server; and tasks while processes are killed."""

import csv
import io
import json
import time
from typing import Any

import psutil
from openai import OpenAI

from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from tests.support.server import ServerProcess

ROWS = 40


def post(client: OpenAI, path: str, **body: Any) -> dict[str, Any]:
    answer: Any = client.post(f"/luthier/datasets/{path}", body={"wait_seconds": 60, **body}, cast_to=object)
    return answer


def ended(client: OpenAI, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while True:
        task: Any = client.get(f"/luthier/datasets/tasks/{task_id}", cast_to=object)
        if task["status"] in ("completed", "failed", "cancelled"):
            return task
        assert time.monotonic() < deadline, task
        time.sleep(0.05)


def rows(count: int) -> list[str]:
    """Rows of an assistant called bot, each with a comma too many."""
    talk = '{{"messages": [{{"role": "user", "content": "What is {0} of {1}?"}}, {{"role": "bot", "content": "{2}"}},]}}\n'
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [talk.format(letters[i % 26] * 3, letters[i // 26] * 4, "red" if i % 2 else "blue") for i in range(count)]


def test_a_broken_file_is_checked_mended_split_and_trained_on(server: ServerProcess) -> None:
    client = server.client()
    broken = client.files.create(file=("rows.jsonl", "".join(rows(ROWS)).encode()), purpose="user_data")
    task = post(client, "check", file_id=broken.id)
    assert task["status"] == "completed", (task, server.logs())
    assert (task["result"]["ok"], task["result"]["by_code"]["trailing_comma"]["count"]) == (False, ROWS)
    table = client.get(f"/luthier/datasets/tasks/{task['id']}/findings", cast_to=str, options={"params": {"format": "csv"}})
    assert [line["line"] for line in csv.DictReader(io.StringIO(table))] == [str(number) for number in range(1, ROWS + 1)]

    fixed = post(client, "fix", file_id=broken.id)["result"]
    assert fixed["changed_lines"] == ROWS
    mended = fixed["files"]["repaired"]
    assert post(client, "check", file_id=mended)["result"]["ok"]

    split = post(client, "split", file_id=mended, valid=0.2)["result"]
    assert split["training_rows"] + split["validation_rows"] == ROWS
    files = split["files"]
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=files["training"],
        validation_file=files["validation"],
        hyperparameters={"n_epochs": 1, "batch_size": 8},
    )
    assert server.wait_for_job(job.id).status == "succeeded", server.logs()


def large(client: OpenAI) -> str:
    """A file whose check takes seconds: the lane that it is in has time to be killed."""
    line = json.dumps({"messages": [{"role": "user", "content": "x" * 60}, {"role": "assistant", "content": "y", "name": 3}]})
    data = (line + "\n").encode() * 60_000
    return client.files.create(file=("large.jsonl", data), purpose="fine-tune").id


def child_of_data_lane(server: ServerProcess) -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        child = server.training_child()
        if child is not None:
            return child
        time.sleep(0.01)
    raise AssertionError(server.logs())


def test_tasks_survive_the_death_of_their_process_and_of_the_server(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    file = large(client)
    small = client.files.create(file=("small.jsonl", "".join(rows(3)).encode()), purpose="user_data").id
    task = post(client, "check", file_id=file, wait_seconds=0)
    child_of_data_lane(fresh_server).kill()
    # Small work does not wait for it.
    assert post(client, "fix", file_id=small)["status"] == "completed"
    child_of_data_lane(fresh_server)
    fresh_server.kill_all()
    fresh_server.start()
    client = fresh_server.client()
    result = ended(client, task["id"])
    assert result["status"] == "completed", (result, fresh_server.logs())
    assert result["num_findings"] == 60_000


def test_a_process_that_dies_twice_fails_its_task_and_a_cancelled_one_makes_nothing(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    file = large(client)
    task = post(client, "check", file_id=file, wait_seconds=0)
    database = Database(fresh_server.data_dir / "state.db")
    for fence in (1, 2):
        while (current := DatasetTaskStore(database).get(task["id"])) is None or current.fence < fence:
            time.sleep(0.01)
        child_of_data_lane(fresh_server).kill()
    failed = ended(client, task["id"])
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert "ended unexpectedly, 2 times" in failed["error"]["message"]

    task = post(client, "fix", file_id=file, wait_seconds=0)
    child = child_of_data_lane(fresh_server)
    gone: Any = client.post(f"/luthier/datasets/tasks/{task['id']}/cancel", cast_to=object)
    assert gone["status"] == "cancelled"
    child.wait(30)
    assert [one.id for one in client.files.list()] == [file]
    deadline = time.monotonic() + 30
    while (work := fresh_server.data_dir / "datasets" / task["id"] / "work").exists():
        assert time.monotonic() < deadline, work
        time.sleep(0.05)
    assert ended(client, task["id"])["status"] == "cancelled"
    database.close()
