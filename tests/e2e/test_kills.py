"""Jobs killed or paused at bad moments: nothing acknowledged is lost, and the job ends with the very same numbers."""

import time
from typing import Any

import psutil
import pytest

from tests.support.examples import chat_file
from tests.support.server import ServerProcess

MODEL = "gpt-4o-mini-2024-07-18"
STEPS = 120


def start_job(client: Any) -> Any:
    file = client.files.create(file=("train.jsonl", chat_file(40)), purpose="fine-tune")
    return client.fine_tuning.jobs.create(model=MODEL, training_file=file.id, seed=11, hyperparameters={"n_epochs": 6, "batch_size": 2})


def losses(client: Any, job_id: str) -> dict[int, float]:
    events = client.fine_tuning.jobs.list_events(job_id, limit=100)
    return {e.data["step"]: e.data["train_loss"] for e in events if e.type == "metrics"}


def assert_same(found: dict[int, float], undisturbed: dict[int, float], server: ServerProcess, job_id: str) -> None:
    """Every step's loss is the undisturbed run's; else the first that differ are named, and where the run had gone on from."""
    differ = [(step, found[step], loss) for step, loss in sorted(undisturbed.items()) if found[step] != pytest.approx(loss, abs=1e-6)]
    told = [event.message for event in server.client().fine_tuning.jobs.list_events(job_id, limit=100) if "resumed" in event.message]
    assert not differ, (len(differ), differ[:5], told)


def wait_for_step(server: ServerProcess, job_id: str, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if max(losses(server.client(), job_id), default=0) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached; {server.logs()}")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """Losses of the job that nobody disturbs."""
    server = ServerProcess(tmp_path_factory.mktemp("quiet")).start()
    client = server.client()
    job = server.wait_for_job(start_job(client).id)
    result = losses(client, job.id)
    server.stop()
    assert job.status == "succeeded"
    assert sorted(result) == list(range(1, STEPS + 1))
    return result


def test_a_killed_training_child_is_replaced_and_the_numbers_stay(fresh_server: ServerProcess, undisturbed: dict[int, float]) -> None:
    client = fresh_server.client()
    job = start_job(client)
    wait_for_step(fresh_server, job.id, 30)
    child = fresh_server.training_child()
    assert child is not None
    child.kill()
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", fresh_server.logs()
    after = losses(client, job.id)
    assert sorted(after) == sorted(undisturbed), "every step once"
    assert_same(after, undisturbed, fresh_server, job.id)
    told = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=100) if "before the interruption" in e.message]
    assert all(message.endswith("losses and gradients are the same bit for bit.") for message in told), told


def test_all_processes_killed_and_started_again(fresh_server: ServerProcess, undisturbed: dict[int, float]) -> None:
    client = fresh_server.client()
    job = start_job(client)
    kept = client.files.create(file=("kept.jsonl", chat_file(12)), purpose="fine-tune")
    wait_for_step(fresh_server, job.id, 30)
    waiting = start_job(client)
    fresh_server.kill_all()

    fresh_server.start()
    client = fresh_server.client()
    assert client.files.retrieve(kept.id).bytes == len(chat_file(12))
    assert client.files.content(kept.id).read() == chat_file(12)
    assert client.fine_tuning.jobs.retrieve(waiting.id).id == waiting.id
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", fresh_server.logs()
    assert losses(client, job.id) == pytest.approx(undisturbed, abs=1e-6)
    assert fresh_server.wait_for_job(waiting.id).status == "succeeded"
    answer = client.chat.completions.create(model=done.fine_tuned_model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.choices[0].message.content is not None


def test_a_stop_saves_the_run_and_the_next_server_goes_on(fresh_server: ServerProcess, undisturbed: dict[int, float]) -> None:
    client = fresh_server.client()
    job = start_job(client)
    wait_for_step(fresh_server, job.id, 30)
    assert fresh_server.terminate() == 0
    assert not (fresh_server.data_dir / "server.json").exists()

    fresh_server.start()
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", fresh_server.logs()
    assert losses(fresh_server.client(), job.id) == pytest.approx(undisturbed, abs=1e-6)


def test_a_paused_job_stops_survives_a_restart_and_goes_on(fresh_server: ServerProcess, undisturbed: dict[int, float]) -> None:
    client = fresh_server.client()
    job = start_job(client)
    wait_for_step(fresh_server, job.id, 30)
    child = fresh_server.training_child()
    assert child is not None
    paused = client.fine_tuning.jobs.pause(job.id)
    assert (paused.status, paused.estimated_finish) == ("paused", None)
    child.wait(timeout=60)  # it ends by itself, and the lane is free for another job
    told = losses(client, job.id)
    assert len(told) < STEPS
    made = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert made.step_number >= max(told), "what was learned up to the pause can be tried"
    tried = client.chat.completions.create(
        model=made.fine_tuned_model_checkpoint, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
    )
    assert tried.model.endswith(f":ckpt-step-{made.step_number}")
    other = start_job(client)
    wait_for_step(fresh_server, other.id, 1)
    client.fine_tuning.jobs.cancel(other.id)

    assert fresh_server.terminate() == 0
    fresh_server.start()
    client = fresh_server.client()
    assert client.fine_tuning.jobs.retrieve(job.id).status == "paused"
    assert losses(client, job.id) == told

    assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", fresh_server.logs()
    after = losses(client, job.id)
    assert sorted(after) == sorted(undisturbed), "every step once"
    assert_same(after, undisturbed, fresh_server, job.id)
    messages = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    again = next(m for m in messages if m.startswith("Fine-tuning job resumed after step "))
    # The state was saved when the child stopped: no step that was told is trained again.
    assert int(again.rsplit(" ", 1)[1]) >= max(told)
    assert messages.index(again) < messages.index("The job has been resumed") < messages.index("The job has been paused")


def test_children_do_not_outlive_a_killed_server(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    job = start_job(client)
    wait_for_step(fresh_server, job.id, 5)
    children = fresh_server.descendants()
    assert len(children) >= 4, "engine host, worker, fork server, training child"
    assert fresh_server.process is not None
    fresh_server.process.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert len(gone) == len(children)
    fresh_server.process.wait(timeout=5)


def test_a_dead_engine_host_comes_back(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    host = next(p for p in fresh_server.descendants() if "luthier.deployment.host" in " ".join(p.cmdline()))
    host.kill()
    host.wait(timeout=5)
    deadline = time.monotonic() + 60
    while fresh_server.ready()[0] != 200:
        assert time.monotonic() < deadline, fresh_server.logs()
        time.sleep(0.1)
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1
