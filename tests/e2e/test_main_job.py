"""The main job with real processes through the official client: both file formats, LoRA and full, golden life cycle."""

import base64
import csv
import io
import json
import re
from typing import Any

import pytest

from tests.support.examples import chat_file, pairs, prompt_completion_file
from tests.support.server import ServerProcess

MODEL = "gpt-4o-mini-2024-07-18"


def upload(client: Any, data: bytes, name: str = "train.jsonl") -> str:
    return client.files.create(file=(name, data), purpose="fine-tune").id


def run_job(server: ServerProcess, data: bytes, valid: bytes | None, **options: Any) -> Any:
    client = server.client()
    validation = upload(client, valid, "valid.jsonl") if valid else None
    job = client.fine_tuning.jobs.create(model=MODEL, training_file=upload(client, data), validation_file=validation, **options)
    assert job.status == "validating_files"
    return server.wait_for_job(job.id)


def all_events(client: Any, job_id: str) -> list[Any]:
    return list(client.fine_tuning.jobs.list_events(job_id, limit=100))[::-1]


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("make", [prompt_completion_file, chat_file], ids=["prompt_completion", "chat"])
def test_a_job_trains_is_measured_and_answers(server: ServerProcess, make: Any, adapter: str) -> None:
    client = server.client()
    job = run_job(
        server,
        make(40),
        make(8, "valid.jsonl"),
        seed=7,
        suffix="My Suffix:x",
        hyperparameters={"n_epochs": 2, "batch_size": 4},
        extra_body={"luthier": {"adapter": adapter}},
    )
    assert job.status == "succeeded", (job.error, server.logs())
    assert re.fullmatch(rf"ft:{MODEL}:luthier:my-suffix-x:[0-9A-Za-z]{{8}}", job.fine_tuned_model)
    assert job.model == MODEL
    assert job.error is not None
    assert job.error.code is None
    assert job.hyperparameters.n_epochs == 2
    assert job.hyperparameters.batch_size == 4
    assert job.hyperparameters.learning_rate_multiplier > 0
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.trained_tokens == 2 * tokens_of(client, make(40)), "every row's tokens, once for each epoch"
    assert job.finished_at >= job.created_at

    check_events(client, job)
    check_checkpoints(client, job)
    check_result_file(client, job, steps=20)

    prompt = pairs()[0][0]
    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=16
    )
    assert answer.model == job.fine_tuned_model
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1
    assert job.fine_tuned_model in {m.id for m in client.models.list()}


def tokens_of(client: Any, data: bytes) -> int:
    """What a training file comes to in tokens, as the server renders its rows."""
    total = 0
    for line in data.splitlines():
        row = json.loads(line)
        pair = [("user", "prompt"), ("assistant", "completion")]
        messages = row.get("messages") or [{"role": role, "content": row[name]} for role, name in pair]
        body = {"model": "luthier-mini", "messages": messages, "add_generation_prompt": False}
        total += len(client.post("/luthier/render", cast_to=object, body=body)["tokens"])
    return total


def check_events(client: Any, job: Any) -> None:
    events = all_events(client, job.id)
    messages = [e.message for e in events]
    order = [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {job.training_file} and validation file: {job.validation_file}",
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    positions = [messages.index(text) for text in order]
    assert positions == sorted(positions)
    assert messages[-1] == order[-1]
    assert any("luthier-mini" in m for m in messages), "an event says which open model really trains"
    metrics = [e for e in events if e.type == "metrics"]
    assert [e.data["step"] for e in metrics] == list(range(1, 21))
    assert all(re.match(r"Step \d+/20: training loss=\d+\.\d\d", e.message) for e in metrics)
    assert "full validation loss=" in metrics[9].message
    assert metrics[9].data["full_valid_loss"] > 0
    assert 0 <= metrics[9].data["train_mean_token_accuracy"] <= 1


def check_checkpoints(client: Any, job: Any) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert [c.step_number for c in checkpoints] == [20, 10]
    final, first = checkpoints
    assert final.fine_tuned_model_checkpoint == job.fine_tuned_model
    assert re.search(r":[0-9A-Za-z]{8}:ckpt-step-10$", first.fine_tuned_model_checkpoint)
    assert first.metrics.full_valid_loss is not None
    text = client.chat.completions.create(
        model=first.fine_tuned_model_checkpoint, messages=[{"role": "user", "content": "Hello"}], temperature=0, max_tokens=4
    )
    assert text.usage.completion_tokens >= 1


def check_result_file(client: Any, job: Any, *, steps: int) -> None:
    content = client.files.content(job.result_files[0]).read()
    text = base64.b64decode(content).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [int(r["step"]) for r in rows] == list(range(1, steps + 1))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_completions_renders_the_prompt_as_it_was_trained(server: ServerProcess) -> None:
    client = server.client()
    job = run_job(
        server, prompt_completion_file(40), None, hyperparameters={"n_epochs": 8, "batch_size": 4, "learning_rate_multiplier": 8}, seed=3
    )
    assert job.status == "succeeded", server.logs()
    prompt = pairs()[0][0]
    chat = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=16
    )
    legacy = client.completions.create(model=job.fine_tuned_model, prompt=prompt, temperature=0, max_tokens=16)
    assert chat.choices[0].message.content
    assert legacy.choices[0].text == chat.choices[0].message.content


def test_a_tuned_model_is_tuned_further(server: ServerProcess) -> None:
    client = server.client()
    first = run_job(server, chat_file(20), None, hyperparameters={"n_epochs": 1}, seed=1)
    job = client.fine_tuning.jobs.create(
        model=first.fine_tuned_model, training_file=upload(client, chat_file(20)), hyperparameters={"n_epochs": 1}, seed=1
    )
    done = server.wait_for_job(job.id)
    assert done.status == "succeeded", server.logs()
    assert done.fine_tuned_model.startswith(f"ft:{MODEL}:luthier::")
    before = [e.data["train_loss"] for e in all_events(client, first.id) if e.type == "metrics"]
    after = [e.data["train_loss"] for e in all_events(client, done.id) if e.type == "metrics"]
    assert after[0] < before[0]


def test_cancel_ends_a_running_job_without_a_model(server: ServerProcess) -> None:
    client = server.client()
    job = client.fine_tuning.jobs.create(
        model=MODEL, training_file=upload(client, chat_file(40)), hyperparameters={"n_epochs": 50, "batch_size": 1}
    )
    while client.fine_tuning.jobs.retrieve(job.id).status in ("validating_files", "queued"):
        pass
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "cancelled"
    assert done.fine_tuned_model is None
    assert "Fine tuning process stopping due to job cancellation" in [e.message for e in all_events(client, job.id)]
    follow_up = run_job(server, chat_file(12), None, hyperparameters={"n_epochs": 1})
    assert follow_up.status == "succeeded", "the trainer is free again"


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (prompt_completion_file(9), "invalid_n_examples", "Training file has 9 example(s), but must have at least 10 examples"),
        (b'{"messages": [{"role": "wizard", "content": "x"}]}\n' * 12, "invalid_training_file", "Example 1, message 1"),
        (b'{"messages": [{"role": "user", "content": "x"}]}\n' * 12, "invalid_file_format", "Example 1"),
        (b'{"text": "x"}\n' * 12, "invalid_file_format", "Example 1"),
    ],
    ids=["nine", "wrong-role", "no-assistant", "no-messages"],
)
def test_faulty_content_ends_as_a_failed_job(server: ServerProcess, data: bytes, code: str, message: str) -> None:
    job = run_job(server, data, None)
    assert job.status == "failed"
    assert job.error.code == code
    assert message in job.error.message
    assert job.error.param == "training_file"
    assert job.fine_tuned_model is None
    assert job.finished_at is not None


def test_rows_of_which_nothing_would_be_trained_fail_the_job_before_it_is_queued_unless_they_are_to_be_left_out(
    server: ServerProcess,
) -> None:
    lines = prompt_completion_file(12).splitlines(keepends=True)
    lines[3] = lines[8] = b'{"prompt": "' + b"why " * 90 + b'", "completion": "because"}\n'
    data = b"".join(lines)
    job = run_job(server, data, None, extra_body={"luthier": {"max_length": 64}})
    assert job.status == "failed"
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "2 examples have no token to learn from (lines 4, 9)" in job.error.message
    assert "Fine-tuning job started" not in [e.message for e in all_events(server.client(), job.id)]
    options = {"max_length": 64, "skip_untrained": True}
    job = run_job(server, data, None, hyperparameters={"n_epochs": 1}, extra_body={"luthier": options})
    assert job.status == "succeeded"
