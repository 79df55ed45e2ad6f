"""Small jobs at once in one process: each ends as alone, one's pause or cancellation is its own, a crash is survived by all."""

from typing import Any

import pytest

from luthier.trace.events import StepDone
from luthier.trace.reader import read_events
from tests.e2e.test_kills import MODEL, losses, wait_for_step
from tests.support.examples import chat_file
from tests.support.server import ServerProcess

EPOCHS, BATCH, ROWS = 4, 2, 24
STEPS = EPOCHS * ROWS // BATCH


def start(client: Any, seed: int, *, rows: bytes | None = None, **options: Any) -> str:
    """A job whose rank depends on its seed."""
    file = client.files.create(file=("train.jsonl", rows or chat_file(ROWS)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=file.id,
        seed=seed,
        hyperparameters={"n_epochs": EPOCHS, "batch_size": BATCH},
        extra_body={"luthier": {"rank": 4 * seed, **options}},
    )
    return job.id


def trained_in(server: ServerProcess) -> dict[str, set[int]]:
    """Jobs by the process that the worker gave them to."""
    found: dict[str, set[int]] = {}
    for line in (server.data_dir / "logs" / "worker.log").read_text().splitlines():
        if " train: job " in line:
            words = line.split()
            found.setdefault(words[words.index("job") + 1], set()).add(int(words[words.index("process") + 1]))
    return found


def step_losses(server: ServerProcess, job_id: str) -> dict[int, float]:
    """To the last bit, from the run's own log; of a step that was repeated the later one."""
    events, _ = read_events(server.data_dir / "runs" / job_id / "trace.jsonl")
    return {e.payload.step: e.payload.loss for e in events if isinstance(e.payload, StepDone)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[int, float]]:
    """Losses of the jobs when each trains alone, by seed."""
    server = ServerProcess(tmp_path_factory.mktemp("alone"), LUTHIER_GROUP_JOBS="1").start()
    jobs = {seed: start(server.client(), seed) for seed in (1, 2, 3)}
    ended = {seed: server.wait_for_job(job_id).status for seed, job_id in jobs.items()}
    places = trained_in(server)
    result = {seed: step_losses(server, job_id) for seed, job_id in jobs.items()}
    server.stop()
    assert set(ended.values()) == {"succeeded"}, server.logs()
    assert len(set.union(*places.values())) == 3, "each had a process of its own"
    assert all(sorted(found) == list(range(1, STEPS + 1)) for found in result.values())
    return result


def test_three_at_once_end_as_alone_though_their_process_is_killed(fresh_server: ServerProcess, alone: dict[int, dict[int, float]]) -> None:
    client = fresh_server.client()
    jobs = {seed: start(client, seed) for seed in (1, 2, 3)}
    for job_id in jobs.values():
        wait_for_step(fresh_server, job_id, 8)
    child = fresh_server.training_child()
    assert child is not None
    assert {job_id: {child.pid} for job_id in jobs.values()} == trained_in(fresh_server), "one process for all three"

    client.fine_tuning.jobs.cancel(jobs[3])
    child.kill()
    for seed in (1, 2):
        done = fresh_server.wait_for_job(jobs[seed])
        assert done.status == "succeeded", fresh_server.logs()
        assert step_losses(fresh_server, jobs[seed]) == alone[seed], "bit for bit"
        assert sorted(losses(client, jobs[seed])) == list(range(1, STEPS + 1))
        answer = client.chat.completions.create(model=done.fine_tuned_model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
        assert answer.choices[0].message.content is not None
    assert client.fine_tuning.jobs.retrieve(jobs[3]).status == "cancelled"
    assert not step_losses(fresh_server, jobs[3]).keys() - alone[3].keys()


def test_one_that_pauses_leaves_the_other_alone(fresh_server: ServerProcess, alone: dict[int, dict[int, float]]) -> None:
    client = fresh_server.client()
    steady, paused = start(client, 1), start(client, 2)
    wait_for_step(fresh_server, paused, 5)
    assert client.fine_tuning.jobs.pause(paused).status == "paused"
    assert fresh_server.wait_for_job(steady).status == "succeeded", fresh_server.logs()
    assert step_losses(fresh_server, steady) == alone[1]
    assert client.fine_tuning.jobs.retrieve(paused).status == "paused"
    assert client.fine_tuning.jobs.checkpoints.list(paused).data[0].step_number >= 5, "what was learned up to the pause can be tried"

    client.fine_tuning.jobs.resume(paused)
    assert fresh_server.wait_for_job(paused).status == "succeeded", fresh_server.logs()
    assert step_losses(fresh_server, paused) == alone[2], "alone at last, and still the same numbers"


def test_a_stop_saves_all_of_them(fresh_server: ServerProcess, alone: dict[int, dict[int, float]]) -> None:
    client = fresh_server.client()
    jobs = {seed: start(client, seed) for seed in (1, 2)}
    for job_id in jobs.values():
        wait_for_step(fresh_server, job_id, 5)
    assert fresh_server.terminate() == 0
    fresh_server.start()
    for seed, job_id in jobs.items():
        assert fresh_server.wait_for_job(job_id).status == "succeeded", fresh_server.logs()
        assert step_losses(fresh_server, job_id) == alone[seed]
