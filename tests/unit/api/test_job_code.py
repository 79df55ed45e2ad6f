"""The calls that reproduce a job: each is run, and what it sends is the job's own request."""

import json
import shlex
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from luthier.api.job_code import job_code, request_of
from luthier.core.jobs import Job
from tests.support.command_line import luthier

JOB = Job(
    id="ftjob-1",
    created_at=1,
    model="gpt-4o-mini-2024-07-18",
    base="luthier-mini",
    training_file="file-train",
    validation_file="file-valid",
    hyperparameters={"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": 1.8},
    options={"rank": 8, "adapter": "rslora", "targets": ["q_proj", "v_proj"], "early_stopping": True},
    seed=7,
    suffix="it's",
    metadata={"team": "a b", "note": "ü=1"},
)
PLAIN = Job(id="ftjob-2", created_at=1, model="luthier-mini", base="luthier-mini", parent_model="ft:x", training_file="file-a", seed=1)
PREFERENCE = Job(
    id="ftjob-3",
    created_at=1,
    model="luthier-mini",
    base="luthier-mini",
    training_file="file-a",
    seed=1,
    method="dpo",
    hyperparameters={"beta": 0.1},
)


def sent_by_python(code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    sent: dict[str, Any] = {}

    def create(**arguments: Any) -> SimpleNamespace:
        sent.update(arguments)
        return SimpleNamespace(id="ftjob-new")

    client = SimpleNamespace(fine_tuning=SimpleNamespace(jobs=SimpleNamespace(create=create)))
    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=lambda: client))
    exec(compile(code, "code", "exec"), {})
    return {**sent, **sent.pop("extra_body", {})} if "extra_body" in sent else sent


@pytest.mark.parametrize("job", [JOB, PLAIN, PREFERENCE], ids=lambda job: job.id)
def test_python_and_curl_send_the_jobs_own_request(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    code = job_code(job)
    sent = sent_by_python(code["python"], monkeypatch)
    sent.pop("extra_body", None)
    assert sent == request_of(job)
    words = shlex.split(code["curl"].replace("\\\n", " "))
    assert json.loads(words[words.index("-d") + 1]) == request_of(job)


@pytest.mark.parametrize("job", [JOB, PLAIN, PREFERENCE], ids=lambda job: job.id)
def test_the_command_sends_the_jobs_own_request(job: Job) -> None:
    words = shlex.split(job_code(job)["cli"].replace("\\\n", " "))
    assert words[0] == "luthier"
    result = luthier(*words[1:], "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["request"]["body"] == request_of(job)


def test_what_was_decided_is_named_and_auto_is_left_to_the_server() -> None:
    body = request_of(JOB)
    assert body["method"] == {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "learning_rate_multiplier": 1.8}}}
    assert request_of(PLAIN)["model"] == "ft:x"
