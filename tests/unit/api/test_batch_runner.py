"""The runner of batches: killed anywhere, it goes on; late batches expire; a full disk stops it and no more."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.api.auth import INNER_CALLER
from luthier.api.batches import runner as runner_module
from luthier.api.batches.outcomes import Outcomes
from luthier.api.batches.runner import BatchRunner
from luthier.api.deps import Services
from luthier.core.batches import BatchRecord, BatchStatus
from luthier.core.keys import DEFAULT_PROJECT
from luthier.storage.batches import BatchStore
from tests.support.api_server import new_services
from tests.support.fake_engine import BASE, FakeEngine

CHAT = "/v1/chat/completions"


class Killed(BaseException):
    """The process is gone at this point."""


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    engine = FakeEngine().start()
    made = new_services(tmp_path / "data", engine)
    yield made
    made.database.close()
    engine.stop()


def app_saying(told: list[str]) -> ASGIApp:
    """An application that answers at once, and notes whom it answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope[INNER_CALLER].project_id == DEFAULT_PROJECT
        body = json.loads((await receive())["body"])
        told.append(body["user"])
        answer = {"usage": {"prompt_tokens": 2, "completion_tokens": 1}}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-request-id", b"req_1")]})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    return app


def new_batch(services: Services, num_lines: int, **changes: Any) -> BatchRecord:
    rows = [{"custom_id": f"r{i}", "method": "POST", "url": CHAT, "body": {"model": BASE, "user": f"r{i}"}} for i in range(num_lines)]
    sha256, _ = services.blobs.put(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    now = int(services.clock())
    record = BatchRecord(
        **{
            "id": "batch_1",
            "project_id": DEFAULT_PROJECT,
            "endpoint": CHAT,
            "input_file_id": "file-1",
            "input_sha256": sha256,
            "created_at": now,
            "expires_at": now + 100,
            **changes,
        }
    )
    services.batches.add(record)
    return record


async def run_once(services: Services, app: ASGIApp) -> None:
    """One life of the server: take up what there is, and work on it to its end."""
    runner = BatchRunner(app, services, first_pause=0.001)
    await runner.start_new()
    await runner.finish_started()


def lines_of(services: Services, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    file = services.files.get(file_id)
    assert file is not None
    return [json.loads(line) for line in services.blobs.path(file.sha256).read_bytes().splitlines()]


def ended(services: Services) -> BatchRecord:
    record = services.batches.get("batch_1")
    assert record is not None
    assert record.status.is_final, record
    assert not (services.settings.batches_dir / record.id).exists()
    return record


STEPS = ("move", "note", "add", "stored")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_answers_every_request_once(
    services: Services, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    """The n-th call of a step is where the process ends; the next life has one more, until a life reaches the end."""
    new_batch(services, 6)
    told: list[str] = []
    owner: Any = BatchStore if step in ("move", "note") else Outcomes
    genuine = getattr(owner, step)
    lives = 0
    for at in range(1, 40):
        calls = 0

        def killed(*args: Any, at: int = at, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at and not after:
                raise Killed
            result = genuine(*args, **named)
            if calls == at:
                raise Killed
            return result

        monkeypatch.setattr(owner, step, killed)
        lives += 1
        try:
            asyncio.run(run_once(services, app_saying(told)))
        except Killed:
            pass
        else:
            break
        if not services.batches.active():
            break
    monkeypatch.setattr(owner, step, genuine)
    assert lives > 1
    record = services.batches.get("batch_1")
    assert record is not None
    assert (record.status, record.num_total, record.num_completed, record.num_failed) == (BatchStatus.COMPLETED, 6, 6, 0)
    assert (record.input_tokens, record.output_tokens) == (12, 6)
    assert sorted(row["custom_id"] for row in lines_of(services, record.output_file_id)) == [f"r{i}" for i in range(6)]
    assert len(services.files.list(purpose="batch_output").items) == 1


def test_what_a_crash_left_of_an_ended_batch_goes_with_the_next_start(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        raise Killed

    new_batch(services, 2)
    genuine = runner_module.remove_outcomes
    monkeypatch.setattr(runner_module, "remove_outcomes", killed)
    with pytest.raises(Killed):
        asyncio.run(run_once(services, app_saying([])))
    monkeypatch.setattr(runner_module, "remove_outcomes", genuine)
    assert (services.settings.batches_dir / "batch_1").exists()
    asyncio.run(run_once(services, app_saying([])))
    assert ended(services).status is BatchStatus.COMPLETED


def test_a_line_that_a_crash_cut_off_is_run_again(services: Services) -> None:
    record = new_batch(services, 3)
    folder = services.settings.batches_dir / record.id
    outcomes = Outcomes(folder)
    outcomes.add("r1", 200, "req_0", {"usage": {"input_tokens": 5, "output_tokens": 5}})
    outcomes.add("r2", 400, "req_0", {"error": {}})
    outcomes.close()
    with (folder / "output.jsonl").open("ab") as file:
        file.write(b'{"id": "batch_req_x", "custom_id": "r0", "respo')
    told: list[str] = []
    asyncio.run(run_once(services, app_saying(told)))
    after = ended(services)
    assert told == ["r0"]
    assert (after.num_completed, after.num_failed, after.input_tokens) == (2, 1, 7)
    assert [row["custom_id"] for row in lines_of(services, after.output_file_id)] == ["r1", "r0"]
    assert [row["custom_id"] for row in lines_of(services, after.error_file_id)] == ["r2"]


def test_what_is_open_when_the_window_ends_expires(services: Services) -> None:
    now = int(services.clock())
    record = new_batch(services, 3, created_at=now - 90_000, expires_at=now - 3600)
    outcomes = Outcomes(services.settings.batches_dir / record.id)
    outcomes.add("r1", 200, "req_0", {})
    outcomes.close()
    told: list[str] = []
    asyncio.run(run_once(services, app_saying(told)))
    after = ended(services)
    assert (after.status, told, after.expired_at is not None) == (BatchStatus.EXPIRED, [], True)
    assert [row["custom_id"] for row in lines_of(services, after.output_file_id)] == ["r1"]
    late = lines_of(services, after.error_file_id)
    assert [(row["custom_id"], row["response"], row["error"]["code"]) for row in late] == [
        ("r0", None, "batch_expired"),
        ("r2", None, "batch_expired"),
    ]


def test_cancelled_at_the_very_end_of_its_window_it_keeps_its_answers(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(services.clock())
    record = new_batch(services, 2, created_at=now - 90_000, expires_at=now - 3600)
    outcomes = Outcomes(services.settings.batches_dir / record.id)
    outcomes.add("r1", 200, "req_0", {})
    outcomes.close()
    genuine = Outcomes.stored

    def cancelled_meanwhile(self: Outcomes, *args: Any) -> Any:
        services.batches.move("batch_1", BatchStatus.CANCELLING, now)
        return genuine(self, *args)

    monkeypatch.setattr(Outcomes, "stored", cancelled_meanwhile)
    for _ in range(2):
        asyncio.run(run_once(services, app_saying([])))
    after = ended(services)
    assert after.status is BatchStatus.CANCELLED
    assert [row["custom_id"] for row in lines_of(services, after.output_file_id)] == ["r1"]


def test_cancelled_while_its_faulty_file_was_waiting_it_is_cancelled(services: Services) -> None:
    sha256, _ = services.blobs.put(b"{no\n")
    new_batch(services, 1, input_sha256=sha256)
    services.batches.move("batch_1", BatchStatus.CANCELLING, 5)
    asyncio.run(run_once(services, app_saying([])))
    after = ended(services)
    assert (after.status, after.output_file_id, after.error_file_id) == (BatchStatus.CANCELLED, None, None)


def test_a_full_disk_stops_it_until_there_is_room(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    new_batch(services, 4)
    monkeypatch.setattr(runner_module, "FAULT_SECONDS", 0.0)
    genuine, full = Outcomes._append, [True]

    def add(self: Outcomes, *args: Any) -> None:
        if full.pop() if full else False:
            raise OSError(28, "No space left on device")
        genuine(self, *args)

    monkeypatch.setattr(Outcomes, "_append", add)
    told: list[str] = []
    asyncio.run(run_once(services, app_saying(told)))
    assert [record.status for record in services.batches.active()] == [BatchStatus.IN_PROGRESS]
    asyncio.run(run_once(services, app_saying(told)))
    after = ended(services)
    assert sorted(row["custom_id"] for row in lines_of(services, after.output_file_id)) == ["r0", "r1", "r2", "r3"]
