"""Preference tuning with real processes through the official client: on a base and on a tuned model, by adapter and in full, and killed."""

import base64
import csv
import io
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_group import trained_in
from tests.e2e.test_kills import wait_for_step
from tests.e2e.test_main_job import all_events, upload
from tests.support.server import ServerProcess

MODEL = "gpt-4o-mini-2024-07-18"
FORMALITY = Path(__file__).parents[2] / "examples" / "formality-dpo"
REWARDS = [f"{part}_reward_{name}" for part in ("train", "valid") for name in ("accuracy", "margin", "chosen", "rejected")]


def rows(name: str = "train.jsonl", count: int | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FORMALITY / name).read_text(encoding="utf-8").splitlines()[:count]]


def jsonl(values: list[Any]) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def informal(values: list[dict[str, Any]]) -> bytes:
    """Chat rows that teach the answers which are not preferred."""
    return jsonl([{"messages": [*row["input"]["messages"], *row["non_preferred_output"]]} for row in values])


def prefer(
    client: Any, training: bytes, validation: bytes | None = None, *, model: str = MODEL, options: Any = None, **numbers: Any
) -> Any:
    return client.fine_tuning.jobs.create(
        model=model,
        training_file=upload(client, training),
        validation_file=upload(client, validation, "valid.jsonl") if validation else None,
        seed=5,
        method={"type": "dpo", "dpo": {"hyperparameters": numbers}},
        extra_body={"luthier": options} if options else None,
    )


def trace(client: Any, job_id: str) -> list[dict[str, Any]]:
    return client.get(f"/luthier/jobs/{job_id}/trace?limit=5000", cast_to=object)["data"]


def test_supervised_then_preferred_ends_with_the_preferred_answers(server: ServerProcess) -> None:
    client = server.client()
    learned = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=upload(client, informal(rows(count=80))),
        seed=5,
        hyperparameters={"n_epochs": 4, "batch_size": 4, "learning_rate_multiplier": 3},
    )
    parent = server.wait_for_job(learned.id)
    assert parent.status == "succeeded", server.logs()
    asked = prefer(
        client,
        jsonl(rows(count=80)),
        jsonl(rows("valid.jsonl", 20)),
        model=parent.fine_tuned_model,
        beta=0.2,
        n_epochs=3,
        batch_size=4,
        learning_rate_multiplier=12,
    )
    job = server.wait_for_job(asked.id)
    assert job.status == "succeeded", (job.error, server.logs())
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert (job.method.dpo.hyperparameters.n_epochs, job.method.supervised) == (3, None)

    metrics = [event for event in all_events(client, job.id) if event.type == "metrics"]
    # An epoch's last step is told at once, and again with the epoch's validation where that takes over a second.
    again = [now.data for before, now in pairwise(metrics) if now.data["step"] == before.data["step"]]
    assert all(data["step"] % 20 == 0 and "full_valid_loss" in data for data in again)
    whole = {event.data["step"]: event.data for event in metrics}
    assert (list(whole), len(metrics)) == (list(range(1, 61)), 60 + len(again))
    assert [step for step, data in whole.items() if "full_valid_loss" in data] == [20, 40, 60]
    assert metrics[0].data["train_loss"] == pytest.approx(math.log(2), abs=1e-3), "the reference is the tuned model, not the base"
    assert metrics[-1].data["full_valid_reward_accuracy"] >= 0.9
    assert metrics[-1].data["full_valid_reward_margin"] > 0.5
    report = next(event["data"]["report"] for event in trace(client, job.id) if event["type"] == "Evaluated")
    assert report["preference"]["reference"] == parent.fine_tuned_model
    assert report["preference"]["tuned"]["reward_accuracy"] >= 0.9
    assert report["preference"]["tuned"]["prefers"] >= 0.9 > report["preference"]["base"]["prefers"]

    def answers(model: str) -> str:
        said = []
        for row in rows("valid.jsonl", 20):
            answer = client.chat.completions.create(model=model, messages=row["input"]["messages"], temperature=0, max_tokens=32)
            said.append(answer.choices[0].message.content)
        return " ".join(said).lower()

    before, after = (answers(name) for name in (parent.fine_tuned_model, job.fine_tuned_model))
    assert before.count("vous") + before.count("votre") <= 3
    assert after.count("vous") + after.count("votre") >= 10, (before, after)


def test_preference_jobs_train_in_one_process(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    jobs = [
        prefer(client, jsonl(rows(count=24)), options={"preference_loss": loss}, n_epochs=4, batch_size=2).id for loss in ("dpo", "orpo")
    ]
    for job_id in jobs:
        done = fresh_server.wait_for_job(job_id)
        assert done.status == "succeeded", (done.error, fresh_server.logs())
    first, second = trained_in(fresh_server).values()
    assert first == second
    assert len(first) == 1


@pytest.mark.parametrize(("loss", "start"), [("orpo", None), ("kto", 0.5)])
def test_the_other_losses_train_on_the_same_rows(server: ServerProcess, loss: str, start: float | None) -> None:
    client = server.client()
    training, validation = jsonl(rows(count=24)), jsonl(rows("valid.jsonl", 10))
    asked = prefer(client, training, validation, options={"preference_loss": loss}, n_epochs=2, batch_size=4, learning_rate_multiplier=4)
    job = server.wait_for_job(asked.id)
    assert job.status == "succeeded", (job.error, server.logs())
    assert (job.method.type, job.method.dpo.hyperparameters.beta) == ("dpo", 0.1)
    messages = [event.message for event in all_events(client, job.id)]
    assert any(message.startswith(f"Decided preference_loss = {loss}: ") for message in messages)
    assert any(message.startswith("Reference log-probabilities") for message in messages) == (start is not None)
    metrics = [event for event in all_events(client, job.id) if event.type == "metrics"]
    if start is not None:
        assert metrics[0].data["train_loss"] == pytest.approx(start, abs=1e-3)
    log = trace(client, job.id)
    base = next(event["data"] for event in log if event["type"] == "BaseMeasured")
    assert metrics[-1].data["full_valid_loss"] < base["loss"]
    # Steps as few as these imitate more than they prefer, where imitation is part of the loss.
    grows = "logp_chosen" if loss == "orpo" else "reward_margin"
    assert metrics[-1].data[f"full_valid_{grows}"] > base["preference"][grows]
    done = [event["data"]["did"] for event in log if event["type"] == "StageFinished"]
    assert any(f" by {loss.upper()} with beta 0.1" in did for did in done)
    report = next(event["data"]["report"] for event in log if event["type"] == "Evaluated")
    assert (report["preference"]["reference"] is None) == (loss == "orpo")
    assert report["preference"]["tuned"]["reward_margin"] == pytest.approx(metrics[-1].data["full_valid_reward_margin"], abs=2e-3)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_job_shows_rewards_everywhere(server: ServerProcess, adapter: str) -> None:
    client = server.client()
    training, validation = jsonl(rows(count=24)), jsonl(rows("valid.jsonl", 10))
    asked = prefer(client, training, validation, options={"adapter": adapter}, n_epochs=2, batch_size=4, learning_rate_multiplier=4)
    job = server.wait_for_job(asked.id)
    assert job.status == "succeeded", (job.error, server.logs())
    assert (asked.method.dpo.hyperparameters.beta, job.method.dpo.hyperparameters.beta) == ("auto", 0.1)
    assert job.hyperparameters.n_epochs == 2

    events = all_events(client, job.id)
    messages = [event.message for event in events]
    assert any(message.startswith("Decided beta = 0.1: ") for message in messages)
    assert any(message.startswith("Reference log-probabilities of 34 pairs measured in ") for message in messages)
    metrics = [event for event in events if event.type == "metrics"]
    assert metrics[0].message == "Step 1/12: training loss=0.69"
    assert metrics[0].data["train_loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert metrics[0].data["train_reward_margin"] == pytest.approx(0.0, abs=1e-2)
    assert metrics[-1].data["train_reward_margin"] > 0
    assert metrics[-1].data["full_valid_loss"] < math.log(2)
    assert {f"full_valid_{name}" for name in ("reward_accuracy", "reward_margin", "logp_chosen", "prefers")} <= metrics[-1].data.keys()

    final, first = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (final.step_number, first.step_number) == (12, 6)
    assert final.metrics.full_valid_loss == metrics[-1].data["full_valid_loss"]
    assert final.metrics.model_dump()["full_valid_reward_margin"] > first.metrics.model_dump()["full_valid_reward_margin"] > 0

    text = base64.b64decode(client.files.content(job.result_files[0]).read()).decode()
    table = list(csv.DictReader(io.StringIO(text)))
    assert list(table[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy", *REWARDS]
    assert len(table) == 12
    assert float(table[-1]["train_reward_margin"]) > 0
    assert (table[8]["valid_reward_margin"], table[9]["valid_reward_margin"] != "") == ("", True), "every tenth step is validated"

    asked_again = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "Translate to French: Are you cold?"}], max_tokens=16
    )
    assert asked_again.usage is not None
    assert asked_again.usage.completion_tokens >= 1


def test_a_killed_job_goes_on_with_the_same_numbers_and_the_same_reference(fresh_server: ServerProcess) -> None:
    client = fresh_server.client()
    numbers: dict[str, Any] = {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 4}

    def losses(job_id: str) -> dict[int, tuple[float, float]]:
        found = [event.data for event in all_events(client, job_id) if event.type == "metrics"]
        return {data["step"]: (data["train_loss"], data["train_reward_margin"]) for data in found}

    quiet = fresh_server.wait_for_job(prefer(client, jsonl(rows(count=40)), **numbers).id)
    assert quiet.status == "succeeded", fresh_server.logs()
    job = prefer(client, jsonl(rows(count=40)), **numbers)
    wait_for_step(fresh_server, job.id, 20)
    child = fresh_server.training_child()
    assert child is not None
    child.kill()
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", fresh_server.logs()
    assert losses(job.id) == losses(quiet.id), "to the last bit"
    scored = [event["data"] for event in trace(client, job.id) if event["type"] == "ReferenceScored"]
    assert [entry["reused"] for entry in scored if entry["done"] == entry["total"]] == [False, True]


@pytest.mark.parametrize(
    ("row", "code", "message"),
    [
        ({"messages": [{"role": "user", "content": "x"}]}, "invalid_file_format", "Example 1 is missing key 'input'."),
        ({**rows(count=1)[0], "score": 1}, "invalid_file_format", 'Example 1 contains an extra "score".'),
        (
            {key: value for key, value in rows(count=1)[0].items() if key != "non_preferred_output"},
            "invalid_file_format",
            "Example 1 is missing key 'non_preferred_output'.",
        ),
        (
            {**rows(count=1)[0], "preferred_output": [{"role": "user", "content": "x"}]},
            "invalid_training_file",
            "Example 1, preferred_output message 1",
        ),
    ],
    ids=["supervised-row", "extra", "one-output", "user-output"],
)
def test_faulty_rows_end_as_a_failed_job(server: ServerProcess, row: dict[str, Any], code: str, message: str) -> None:
    job = server.wait_for_job(prefer(server.client(), jsonl([row] * 12)).id)
    assert (job.status, job.error.code, job.error.param) == ("failed", code, "training_file")
    assert message in job.error.message
