"""A webhook with real processes: the worker ends the job, the server is killed before the receiver accepts, and it arrives."""

import contextlib
import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests.support.server import ServerProcess
from tests.support.webhook_receiver import Receiver

pytestmark = pytest.mark.e2e


def wait_until_noted(server: ServerProcess) -> None:
    deadline = time.monotonic() + 30
    with contextlib.closing(sqlite3.connect(server.data_dir / "state.db")) as connection:
        while time.monotonic() < deadline:
            if connection.execute("SELECT lease_expires_at FROM webhook_deliveries").fetchall() == [(None,)]:
                return
            time.sleep(0.02)
    raise AssertionError(f"the first attempt's outcome was not noted; {server.logs()}")


def test_an_event_outlives_the_server(tmp_path: Path) -> None:
    receiver = Receiver([503, 204])
    server = ServerProcess(tmp_path / "data", LUTHIER_WEBHOOKS_ALLOW_HTTP="true", LUTHIER_WEBHOOKS_ALLOW_PRIVATE="true").start()
    try:
        client = server.client()
        made = client.webhooks.create(name="mine", url=receiver.url, event_types=["fine_tuning.job.failed", "fine_tuning.job.succeeded"])
        rows = b"".join(json.dumps({"colour": n}).encode() + b"\n" for n in range(10))  # JSON lines, but no examples
        file = client.files.create(file=("rows.jsonl", rows), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="luthier-mini", training_file=file.id)
        refused = receiver.next()
        # Killed before the outcome is noted it would arrive as well, when the lease of the lost attempt runs out: that takes longer.
        wait_until_noted(server)
        server.kill_all()
        server.start()
        accepted = receiver.next()
        assert (accepted.webhook_id, accepted.body) == (refused.webhook_id, refused.body)
        event = accepted.unwrap(made.signing_secret)
        ended = server.client().fine_tuning.jobs.retrieve(job.id)
        assert (event.type, event.data.id, event.created_at) == (f"fine_tuning.job.{ended.status}", job.id, ended.finished_at)
        assert ended.status == "failed"
    finally:
        server.stop()
        receiver.stop()
