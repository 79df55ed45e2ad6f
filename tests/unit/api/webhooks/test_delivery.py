"""Deliveries with a real receiver: again until accepted, over restarts, and no endpoint waits for another.

The clock and the waits are the tests' own; nothing here depends on how long something takes.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from luthier.api.webhooks import delivery as module
from luthier.api.webhooks.delivery import LEASE_SECONDS, RETRY_SECONDS, WebhookDeliveries, backoff_seconds
from luthier.api.webhooks.sender import WebhookSender
from luthier.core.errors import Unavailable
from luthier.core.jobs import Job, JobStatus
from luthier.core.settings import Settings
from luthier.storage.database import Database
from luthier.storage.jobs import JobStore
from luthier.storage.webhooks import WebhookStore
from tests.support.office import START, Clock, new_database, new_job, note
from tests.support.webhook_receiver import Receiver, new_endpoint

OPEN = Settings(webhooks_allow_http=True, webhooks_allow_private=True)


@contextmanager
def receiving(*statuses: int, **options: Any) -> Iterator[Receiver]:
    receiver = Receiver(statuses or (200,), **options)
    try:
        yield receiver
    finally:
        receiver.stop()


class Office:
    """One process's view of a data directory."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self.store = WebhookStore(database)
        self.jobs = JobStore(database, clock)
        self.deliveries = self.new_deliveries()

    def new_deliveries(
        self, backoff: Callable[[int], float] = lambda attempts: 60.0 * attempts, attempt_seconds: float = 60.0
    ) -> WebhookDeliveries:
        sender = WebhookSender(OPEN, clock=self.clock, attempt_seconds=attempt_seconds)
        return WebhookDeliveries(self.store, sender, clock=self.clock, backoff=backoff)

    def finish_job(self) -> Job:
        job = self.jobs.insert(new_job(status=JobStatus.RUNNING), [])
        return self.jobs.update(job.id, fence=0, changes={"status": JobStatus.SUCCEEDED}, events=[note("end")])

    def round(self) -> int:
        """Send what is due now, and wait for the answers."""

        async def once() -> int:
            begun = await self.deliveries.start_due()
            await self.deliveries.finish_started()
            return begun

        return asyncio.run(once())


@pytest.fixture
def office(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(module, "FAULT_SECONDS", 0.01)
    return Office(database, clock)


def test_the_table_of_waits() -> None:
    middle = [backoff_seconds(attempts, lambda: 0.5) for attempts in range(1, 15)]
    assert middle == [5.0 * 2**n for n in range(12)] + [14400.0, 14400.0]
    assert backoff_seconds(1, lambda: 0.0) == pytest.approx(4.0)
    assert backoff_seconds(1, lambda: 1.0) == pytest.approx(6.0)
    assert backoff_seconds(10**9, lambda: 1.0) == pytest.approx(17280.0)
    assert len({backoff_seconds(3) for _ in range(20)}) > 1


def test_a_receiver_that_fails_twice_gets_it_a_third_time(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(500, 302, 204) as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        job = office.finish_job()
        assert office.round() == 1
        office.clock.now += 59.0
        assert office.round() == 0
        office.clock.now += 1.0
        assert office.round() == 1
        office.clock.now += 120.0
        assert office.round() == 1
        got = [receiver.next() for _ in range(3)]
        assert office.store.owed(endpoint.id) == []
        office.clock.now += RETRY_SECONDS
        assert office.round() == 0
        assert receiver.received.empty()
    assert len({request.webhook_id for request in got}) == 1
    assert len({request.body for request in got}) == 1
    assert [int(request.headers["webhook-timestamp"]) - START for request in got] == [0, 60, 180]
    assert len({request.headers["webhook-signature"] for request in got}) == 3
    assert job.id in got[2].body.decode()
    assert "it answered 500" in caplog.text
    assert "it answered 302" in caplog.text


def test_the_official_client_unwraps_a_delivery(database: Database) -> None:
    office = Office(database, Clock(time.time()))
    with receiving() as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        job = office.finish_job()
        office.round()
        event = receiver.next().unwrap(endpoint.secret)
    assert (event.type, event.data.id, event.created_at) == ("fine_tuning.job.succeeded", job.id, job.finished_at)


def test_a_restart_between_attempts_goes_on(tmp_path: Path, clock: Clock) -> None:
    with receiving(503, 200) as receiver:
        before = new_database(tmp_path)
        office = Office(before, clock)
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()
        office.round()
        before.close()
        after = Database(tmp_path / "state.db")
        office = Office(after, clock)
        assert office.round() == 0
        clock.now += 60.0
        assert office.round() == 1
        first, second = receiver.next(), receiver.next()
        assert (first.webhook_id, first.body) == (second.webhook_id, second.body)
        assert office.store.owed(endpoint.id) == []
        after.close()


def test_a_process_that_dies_during_an_attempt_loses_nothing(office: Office) -> None:
    with receiving(hang=True) as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()

        async def stopped_while_sending() -> None:
            running = asyncio.create_task(office.deliveries.run())
            await asyncio.to_thread(receiver.next)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(stopped_while_sending())
        office.deliveries = office.new_deliveries()
        receiver.let_go()
        office.clock.now += LEASE_SECONDS - 1.0
        assert office.round() == 0
        office.clock.now += 1.0
        assert office.round() == 1
        assert receiver.next().body
        assert office.store.owed(endpoint.id) == []


def test_an_endpoint_that_hangs_delays_nobody(office: Office) -> None:
    # It hangs for longer than all the others take together.
    with receiving(hang=True) as silent, receiving() as quick:
        waiting, served = new_endpoint(silent.url), new_endpoint(quick.url)
        office.store.insert(waiting)
        office.store.insert(served)
        jobs = {office.finish_job().id for _ in range(4)}

        async def watch() -> set[str]:
            running = asyncio.create_task(office.deliveries.run())
            await asyncio.to_thread(silent.next)
            got = [await asyncio.to_thread(quick.next) for _ in range(4)]
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return {json.loads(request.body)["data"]["id"] for request in got}

        assert asyncio.run(watch()) == jobs
        assert silent.received.empty()
        assert len(office.store.owed(waiting.id)) == 4


def test_a_deleted_endpoint_hears_nothing_more(office: Office) -> None:
    with receiving(500) as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()
        office.round()
        assert receiver.next().body
        office.store.delete(endpoint.id)
        office.finish_job()
        office.clock.now += 3600.0
        assert office.round() == 0
        assert receiver.received.empty()


def test_an_endpoint_deleted_during_an_attempt_ends_quietly(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    with receiving(500, hang=True) as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()

        async def deleted_while_sending() -> None:
            await office.deliveries.start_due()
            await asyncio.to_thread(receiver.next)
            office.store.delete(endpoint.id)
            receiver.let_go()
            await office.deliveries.finish_started()

        asyncio.run(deleted_while_sending())
        office.clock.now += 3600.0
        assert office.round() == 0
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_after_72_hours_it_is_given_up_with_a_line_in_the_log(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    hours = 3600.0
    with receiving(500) as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()
        office.deliveries = office.new_deliveries(backoff=lambda _attempts: 5 * hours)
        for _ in range(15):  # after 0, 5, ... 70 hours
            assert office.round() == 1
            office.clock.now += 5 * hours
        office.clock.now = START + 72 * hours - 1.0
        assert office.round() == 0
        assert [record for record in caplog.records if record.levelno == logging.ERROR] == []
        office.clock.now += 1.0
        assert office.round() == 1
        assert office.store.owed(endpoint.id) == []
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "given up after 16 attempts in 72 hours: it answered 500" in line
    assert endpoint.id in line


def test_what_was_due_while_the_server_was_down_for_a_week_is_tried_once_more(office: Office) -> None:
    with receiving() as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()
        office.clock.now += 7 * 86400.0
        assert office.round() == 1
        assert receiver.next().body


def test_a_rotated_secret_signs_what_was_owed_before(database: Database) -> None:
    office = Office(database, Clock(time.time()))
    with receiving() as receiver:
        endpoint = new_endpoint(receiver.url)
        office.store.insert(endpoint)
        office.finish_job()
        rotated = office.store.rotate(endpoint.id, "whsec_" + "QUJD" * 8, office.clock.now, 86400.0)
        assert rotated is not None
        office.round()
        request = receiver.next()
    request.unwrap(endpoint.secret)
    request.unwrap(rotated.secret)


def test_the_loop_outlives_a_busy_database_and_a_fault(
    office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, faults = office.store.claim, [Unavailable("busy"), RuntimeError("a bug")]

    def claim(*args: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return real(*args)

    monkeypatch.setattr(office.store, "claim", claim)
    with receiving() as receiver:
        office.store.insert(new_endpoint(receiver.url))
        office.finish_job()

        async def watch() -> None:
            running = asyncio.create_task(office.deliveries.run())
            await asyncio.to_thread(receiver.next)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        asyncio.run(watch())
    assert "a bug" in caplog.text
    assert "busy" in caplog.text


def test_an_outcome_that_cannot_be_noted_is_sent_again_under_the_same_id(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_delivery: object) -> bool:
        raise Unavailable("busy")

    with receiving() as receiver:
        office.store.insert(new_endpoint(receiver.url))
        office.finish_job()
        with monkeypatch.context() as patch:
            patch.setattr(office.store, "close", refuse)
            assert office.round() == 1
        office.clock.now += LEASE_SECONDS
        assert office.round() == 1
        assert receiver.next().webhook_id == receiver.next().webhook_id
