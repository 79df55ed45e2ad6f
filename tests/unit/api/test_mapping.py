from typing import Any

import pytest

from luthier.api.mapping import JobParts, check_method, event_object, file_object, job_object
from luthier.api.mapping import new_job as job_from_request
from luthier.api.model_names import TrainableModel
from luthier.api.schemas.fine_tuning import JobCreateRequest
from luthier.core.errors import InvalidRequest
from luthier.core.jobs import Job, JobEvent, JobStatus
from tests.support.office import START, new_file, new_job


def shown(job: Job, *, spec_strict: bool = False) -> dict[str, Any]:
    return job_object(job, organization="org", spec_strict=spec_strict, now=START)


CHECK = {"type": "string_check", "name": "exact", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
REINFORCEMENT = {"type": "reinforcement", "reinforcement": {"grader": CHECK}}


def request(**fields: Any) -> JobCreateRequest:
    return JobCreateRequest.model_validate({"model": "gpt-4o-mini", "training_file": "file-1", **fields})


def built(body: JobCreateRequest) -> Job:
    trainable = TrainableModel(model="gpt-4o-mini-2024-07-18", base="luthier-mini", parent_model=None)
    parts = JobParts(id="ftjob-1", created_at=5, seed=99, trainable=trainable, training=new_file(sha256="a" * 64), validation=None)
    return job_from_request(body, parts)


def test_resolved_hyperparameters_replace_auto_in_both_places() -> None:
    object_ = shown(new_job(hyperparameters={"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}))
    assert object_["hyperparameters"] == {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}
    assert object_["method"]["supervised"]["hyperparameters"] == object_["hyperparameters"]


def test_a_real_error_is_shown_in_both_moods() -> None:
    error = {"code": "c", "message": "m", "param": None}
    for strict in (True, False):
        assert shown(new_job(error=error), spec_strict=strict)["error"] == error


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "Waiting for a worker"),
        ({"status": JobStatus.RUNNING, "progress_step": 12}, "step 12"),
        ({"attempts": 2}, "2"),
    ],
)
def test_a_waiting_job_says_why(changes: dict[str, Any], part: str) -> None:
    assert part in shown(new_job(**changes))["luthier"]["status_reason"]


@pytest.mark.parametrize("changes", [{"lease_owner": "x"}, {"status": JobStatus.SUCCEEDED}, {"status": JobStatus.FAILED, "attempts": 3}])
def test_other_jobs_need_no_reason(changes: dict[str, Any]) -> None:
    assert "status_reason" not in shown(new_job(**changes))["luthier"]


def test_an_events_data_is_never_null() -> None:
    event = JobEvent(id="e", job_id="j", sequence=1, created_at=1, level="info", message="m")
    assert event_object(event)["data"] == {}


def test_a_files_object() -> None:
    assert file_object(new_file(id="file-1", expires_at=9))["expires_at"] == 9


def test_a_job_from_a_request() -> None:
    body = request(hyperparameters={"n_epochs": "auto", "batch_size": 2}, suffix="s", metadata={}, luthier={"rank": 4})
    job = built(body)
    assert job.hyperparameters == {"n_epochs": "auto", "batch_size": 2, "learning_rate_multiplier": "auto"}
    assert (job.seed, job.legacy_hyperparameters, job.options, job.metadata) == (99, True, {"rank": 4}, {})
    assert job.training_sha256 == "a" * 64
    assert built(request(seed=0)).seed == 0


def test_equal_hyperparameters_in_both_places_are_one() -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    assert built(request(method=method, hyperparameters={"n_epochs": 2})).hyperparameters["n_epochs"] == 2
    with pytest.raises(InvalidRequest):
        built(request(method=method, hyperparameters={"n_epochs": 3}))


def test_full_tuning_has_no_rank() -> None:
    with pytest.raises(InvalidRequest):
        built(request(luthier={"adapter": "full", "alpha": 1}))
    assert built(request(luthier={"adapter": "full"})).options == {"adapter": "full"}


def test_supervised_and_preference_tuning_are_offered() -> None:
    check_method(request())
    check_method(request(method={"type": "supervised"}))
    check_method(request(method={"type": "dpo"}))
    with pytest.raises(InvalidRequest, match="'supervised' and 'dpo'"):
        check_method(request(method=REINFORCEMENT, validation_file="file-b"))


def test_a_preference_job_keeps_its_beta_and_shows_it_in_its_method_alone() -> None:
    job = built(
        request(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5, "n_epochs": 2}}}, luthier={"preference_loss": "kto"})
    )
    assert job.options == {"preference_loss": "kto"}
    assert (job.method, job.hyperparameters["beta"], job.hyperparameters["batch_size"]) == ("dpo", 0.5, "auto")
    shown = job_object(job, organization="o", spec_strict=True, now=START)
    assert shown["method"] == {"type": "dpo", "dpo": {"hyperparameters": job.hyperparameters}}
    assert shown["hyperparameters"] == {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert "beta" not in built(request()).hyperparameters


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": JobStatus.RUNNING, "lease_owner": "me"}, START + 60),
        ({"status": JobStatus.RUNNING, "lease_owner": "me", "estimated_finish": START - 5}, START),
        ({"status": JobStatus.RUNNING, "lease_owner": "me", "estimated_finish": None}, None),
        ({"status": JobStatus.RUNNING}, None),
        ({"status": JobStatus.RUNNING, "lease_owner": "me", "lease_expires_at": START + 1.0}, START + 60),
        ({"status": JobStatus.RUNNING, "lease_owner": "killed", "lease_expires_at": START - 1.0}, None),
        ({"status": JobStatus.QUEUED, "lease_owner": "me"}, None),
        ({"status": JobStatus.PAUSED}, None),
    ],
)
def test_the_estimate_is_only_shown_while_it_means_something(changes: dict[str, Any], expected: int | None) -> None:
    assert shown(new_job(**{"estimated_finish": START + 60, **changes}))["estimated_finish"] == expected


def test_a_paused_job_says_what_it_waits_for() -> None:
    paused = new_job(status=JobStatus.PAUSED)
    assert shown(paused)["luthier"]["status_reason"] == "Paused on request; it waits to be resumed."
    assert shown(paused)["status"] == "paused"
    strict = shown(paused, spec_strict=True)
    assert (strict["status"], strict["luthier"]) == ("queued", shown(paused)["luthier"]), "to the letter of the schema it waits"
