"""Ctrl-C in a terminal: the signal goes to every process of the group, and the server alone answers to it, in order."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.examples import chat_file
from tests.support.server import ServerProcess

STEPS = 120


def start_job(client: Any) -> Any:
    file = client.files.create(file=("train.jsonl", chat_file(40)), purpose="fine-tune")
    hyperparameters = {"n_epochs": 6, "batch_size": 2}
    return client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=file.id, seed=11, hyperparameters=hyperparameters)


def steps(client: Any, job_id: str) -> list[int]:
    return sorted(e.data["step"] for e in client.fine_tuning.jobs.list_events(job_id, limit=100) if e.type == "metrics")


def wait_for_step(server: ServerProcess, job_id: str, step: int) -> None:
    client, deadline = server.client(), time.monotonic() + 120
    while max(steps(client, job_id), default=0) < step:
        assert time.monotonic() < deadline, server.logs()
        time.sleep(0.05)


def test_processes_below_the_server_leave_ctrl_c_to_it(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", own_group=True).start()
    try:
        client = server.client()
        job = start_job(client)
        wait_for_step(server, job.id, 10)
        child = server.training_child()
        assert child is not None
        below = server.descendants()
        assert child in below
        for process in below:
            process.send_signal(signal.SIGINT)
        assert server.wait_for_job(job.id).status == "succeeded", server.logs()
        answer = client.chat.completions.create(model="luthier-mini", messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
        assert answer.choices
        # The process of the job is done; all others are the same ones.
        assert {process.pid for process in below} - {process.pid for process in server.descendants()} <= {child.pid}
        assert "Traceback" not in server.logs()
    finally:
        server.stop()


def test_ctrl_c_stops_everything_in_order_and_the_job_goes_on_at_the_next_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "data", own_group=True).start()
    job = start_job(server.client())
    wait_for_step(server, job.id, 10)
    below = server.descendants()
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGINT)
    said = server.process.communicate(timeout=60)[0]
    assert server.process.returncode == 0, said
    assert "starting it again" not in said
    assert "Traceback" not in said + server.logs()
    assert not [process for process in below if process.is_running() and process.status() != "zombie"]
    assert list((server.data_dir / "runs" / job.id / "resume").glob("resume-*")), "its state was saved"

    again = ServerProcess(server.data_dir).start()
    try:
        assert again.wait_for_job(job.id).status == "succeeded", again.logs()
        assert steps(again.client(), job.id)[-1] == STEPS
    finally:
        again.stop()
