"""``luthier data tasks``: what the server does with stored files."""

import json
import time
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.data_worker import DataWorker
from tests.unit.cli.conftest import Run

SOUND = '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'


def new_task(server: ApiServer, kind: str = "check", **body: Any) -> dict[str, Any]:
    client = server.client()
    file = client.files.create(file=("rows.jsonl", (SOUND * 10).encode()), purpose="fine-tune").id
    task: Any = client.post(f"/luthier/datasets/{kind}", body={"file_id": file, "wait_seconds": 0, **body}, cast_to=object)
    return task


def shown(text: str) -> str:
    return " ".join(text.split())


def test_tasks_are_listed_newest_first_with_what_they_read_and_where_they_stand(server: ApiServer, run: Run) -> None:
    check, split = new_task(server), new_task(server, "split")
    imported: Any = server.client().post(
        "/luthier/datasets/import", body={"stored_completions": {"model": "m"}, "wait_seconds": 0}, cast_to=object
    )
    result = run("data", "tasks")
    assert result.exit_code == 0, result.stderr
    ids = [task["id"] for task in (imported, split, check)]
    positions = [result.stdout.index(task_id) for task_id in ids]
    assert positions == sorted(positions)
    (line,) = [shown(line) for line in result.stdout.splitlines() if check["id"] in line]
    assert line == f"{check['id']} check {check['options']['file_id']} queued just now"
    assert "import stored completions queued" in shown(result.stdout)
    assert run("data", "tasks", "-q", "--limit", "3").stdout.split() == ids
    only = run("data", "tasks", "--kind", "split", "--json")
    assert [task["id"] for task in json.loads(only.stdout)["data"]] == [split["id"]]
    some = run("data", "tasks", "--limit", "1")
    assert some.stderr.strip() == f"More: luthier data tasks --after {imported['id']}"
    assert check["id"] in run("data", "tasks", "--after", split["id"], "-q").stdout


def test_one_task_is_shown_with_what_it_made(server: ApiServer, run: Run) -> None:
    task = new_task(server, "fix")
    with DataWorker(server.services.settings):
        deadline = time.monotonic() + 30
        while (found := json.loads(run("data", "tasks", task["id"], "--json").stdout))["status"] in ("queued", "running"):
            assert time.monotonic() < deadline
    with server.http() as http:
        assert http.get(f"/v1/luthier/datasets/tasks/{task['id']}").json() == found
    page = shown(run("data", "tasks", task["id"]).stdout)
    for part in ("kind fix", "status completed", f"made repaired {found['result']['files']['repaired']}", "took"):
        assert part in page


def test_a_task_that_runs_tells_how_far_it_is(server: ApiServer, run: Run) -> None:
    task = new_task(server)
    leased = server.services.dataset_tasks.lease("owner-tests", quick=True)
    while leased is not None and leased.id != task["id"]:
        leased = server.services.dataset_tasks.lease("owner-tests", quick=True)
    assert leased is not None
    server.services.dataset_tasks.renew(leased.id, leased.fence, {"done": 250, "total": 1000, "unit": "bytes"})
    assert "running, 25 %" in run("data", "tasks", task["id"]).stdout
    server.services.dataset_tasks.renew(leased.id, leased.fence, {"done": 2_500_000, "total": None, "unit": "bytes"})
    assert "running, 2.5 MB" in run("data", "tasks", task["id"]).stdout
    server.services.dataset_tasks.renew(leased.id, leased.fence, {"done": 3, "total": None, "unit": "rows"})
    assert "running, 3 rows" in run("data", "tasks", task["id"]).stdout
    assert run("data", "tasks", task["id"], "--cancel").exit_code == 0


def test_a_task_is_cancelled_once(server: ApiServer, run: Run) -> None:
    task = new_task(server)
    assert "status cancelled" in shown(run("data", "tasks", task["id"], "--cancel").stdout)
    again = run("data", "tasks", task["id"], "--cancel")
    assert again.exit_code == 1
    assert "Cannot cancel a dataset task with status 'cancelled'. See: luthier data tasks" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("dstask-none",), 4, "No such dataset task: dstask-none Try: luthier data tasks"),
        (("dstask-none", "--cancel"), 4, "No such dataset task: dstask-none Try: luthier data tasks"),
        (("--cancel",), 2, "--cancel needs the id of a task."),
        (("dstask-none", "--kind", "check"), 2, "TASK_ID is for one task."),
        (("--kind", "nothing"), 2, "'nothing' is not one of 'check'"),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(run: Run, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run("data", "tasks", *arguments)
    assert result.exit_code == code
    assert said in shown(result.stderr)
