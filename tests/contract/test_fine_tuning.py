import json
import re
from typing import Any

import openai
import pytest

from luthier.core.jobs import JobStatus, NewEvent
from luthier.core.specs import Hyperparameters
from tests.support.api_server import TUNED, ApiServer
from tests.support.office import new_checkpoint, note

BASE_NAME = "gpt-4o-mini-2024-07-18"


def create(client: openai.OpenAI, training_file: str, **fields: Any) -> Any:
    return client.fine_tuning.jobs.create(**{"model": BASE_NAME, "training_file": training_file, **fields})


def refused(server: ApiServer, body: dict[str, Any]) -> dict[str, Any]:
    with server.http() as http:
        answer = http.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def test_a_new_job_shows_everything(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file, suffix="demo", seed=7, metadata={"team": "a"})
    assert re.fullmatch(r"ftjob-[0-9A-Za-z]{24}", job.id)
    assert (job.object, job.status, job.model) == ("fine_tuning.job", "validating_files", BASE_NAME)
    assert (job.seed, job.training_file, job.validation_file) == (7, training_file, None)
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.result_files) == (None, None, None, [])
    assert job.metadata == {"team": "a"}
    assert job.hyperparameters.n_epochs == job.hyperparameters.batch_size == job.hyperparameters.learning_rate_multiplier == "auto"
    assert job.method.type == "supervised"
    assert job.method.supervised.hyperparameters.n_epochs == "auto"
    assert job.luthier["base"] == "luthier-mini"
    assert job.user_provided_suffix == "demo"
    assert client.fine_tuning.jobs.retrieve(job.id).model_dump() == job.model_dump()


def test_a_job_keeps_snapshots_of_its_files(server: ApiServer, rows: bytes) -> None:
    client = server.client()
    training = client.files.create(file=rows, purpose="fine-tune")
    validation = client.files.create(file=rows + rows, purpose="fine-tune")
    job = create(client, training.id, validation_file=validation.id)
    stored = server.services.jobs.get(job.id)
    assert stored is not None
    assert server.services.blobs.path(stored.training_sha256).read_bytes() == rows
    assert stored.validation_sha256 is not None
    assert server.services.blobs.path(stored.validation_sha256).read_bytes() == rows + rows


HYPERPARAMETERS = {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5}


@pytest.mark.parametrize(
    "fields",
    [{"hyperparameters": HYPERPARAMETERS}, {"method": {"type": "supervised", "supervised": {"hyperparameters": HYPERPARAMETERS}}}],
    ids=["legacy", "method"],
)
def test_hyperparameters_stand_in_both_places_whichever_was_used(client: openai.OpenAI, training_file: str, fields: dict[str, Any]) -> None:
    job = create(client, training_file, **fields)
    for shown in (job.hyperparameters, job.method.supervised.hyperparameters):
        assert (shown.n_epochs, shown.batch_size, shown.learning_rate_multiplier) == (2, 4, 0.5)


def test_auto_and_numbers_may_be_mixed(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file, hyperparameters={"n_epochs": 3, "batch_size": "auto"})
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (3, "auto")
    assert Hyperparameters(n_epochs=3).batch_size is None


def test_a_method_without_its_part_means_auto(client: openai.OpenAI, training_file: str) -> None:
    assert create(client, training_file, method={"type": "supervised"}).hyperparameters.n_epochs == "auto"


def test_different_hyperparameters_in_both_places_are_refused(server: ApiServer, training_file: str) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}
    body = {"model": BASE_NAME, "training_file": training_file, "method": method, "hyperparameters": {"n_epochs": 2}}
    assert refused(server, body)["param"] == "hyperparameters"


def test_our_options_are_kept(server: ApiServer, training_file: str) -> None:
    job = create(server.client(), training_file, extra_body={"luthier": {"adapter": "lora", "rank": 4, "alpha": 8, "max_length": 64}})
    stored = server.services.jobs.get(job.id)
    assert stored is not None
    assert stored.options == {"adapter": "lora", "rank": 4, "alpha": 8, "max_length": 64}
    assert job.luthier["options"] == stored.options


def test_integrations_are_shown_with_the_run(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file, integrations=[{"type": "wandb", "wandb": {"project": "p", "tags": ["a"]}}])
    assert job.integrations[0].wandb.model_dump() == {"project": "p", "name": None, "entity": None, "tags": ["a"], "run_id": job.id}


def test_five_integrations_are_the_most(server: ApiServer, training_file: str) -> None:
    one = {"type": "wandb", "wandb": {"project": "p"}}
    job = create(server.client(), training_file, integrations=[one] * 5)
    assert [item.wandb.run_id for item in job.integrations] == [job.id] * 5
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, "integrations": [one] * 6})
    assert (error["code"], error["param"]) == ("array_above_max_length", "integrations")
    assert create(server.client(), training_file, integrations=None).integrations is None


def test_a_seed_is_made_when_none_is_given(client: openai.OpenAI, training_file: str) -> None:
    seeds = {create(client, training_file, seed=given).seed for given in (None, None, None)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert create(client, training_file, seed=0).seed == 0
    assert create(client, training_file, seed=2**31 - 1).seed == 2**31 - 1


@pytest.mark.parametrize("suffix", ["x" * 64, "My Suffix: v1", "::"])
def test_a_suffix_is_kept_as_given(client: openai.OpenAI, training_file: str, suffix: str) -> None:
    assert create(client, training_file, suffix=suffix).user_provided_suffix == suffix


def test_metadata_up_to_its_limits(client: openai.OpenAI, training_file: str) -> None:
    metadata = {f"{n:02}" + "k" * 62: "v" * 512 for n in range(16)}
    assert create(client, training_file, metadata=metadata).metadata == metadata


def test_an_undated_name_is_shown_as_its_snapshot(client: openai.OpenAI, training_file: str) -> None:
    assert create(client, training_file, model="gpt-3.5-turbo").model == "gpt-3.5-turbo-0125"


def test_an_open_base_may_be_named_itself(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file, model="luthier-mini")
    assert (job.model, job.luthier["base"]) == ("luthier-mini", "luthier-mini")


def test_the_tuning_of_a_tuned_model_goes_on(server: ApiServer, training_file: str) -> None:
    job = create(server.client(), training_file, model=TUNED)
    stored = server.services.jobs.get(job.id)
    assert stored is not None
    assert (job.model, stored.base, stored.parent_model) == (BASE_NAME, "luthier-mini", TUNED)


@pytest.mark.parametrize("name", ["gpt-9", "ft:gpt-4o-mini-2024-07-18:luthier::nothere1"])
def test_an_unknown_model_is_not_available(client: openai.OpenAI, training_file: str, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        create(client, training_file, model=name)
    assert (error.value.code, error.value.param) == ("model_not_available", "model")
    assert f"Model {name} is not available for fine-tuning or does not exist." in error.value.message


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_an_unknown_file_is_invalid(server: ApiServer, training_file: str, param: str) -> None:
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, param: "file-nothing"})
    assert (error["message"], error["param"], error["code"]) == (f"invalid {param}: file-nothing", param, None)


def test_a_file_with_another_purpose_is_invalid(server: ApiServer, rows: bytes) -> None:
    other = server.client().files.create(file=rows, purpose="batch")
    assert refused(server, {"model": BASE_NAME, "training_file": other.id})["param"] == "training_file"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"modell": "x"}, "unknown_parameter", "modell"),
        ({"luthier": {"ranks": 1}}, "unknown_parameter", "luthier.ranks"),
        ({"hyperparameters": {"n_epochs": 0}}, "integer_below_min_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 51}}, "integer_above_max_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 1.5}}, "invalid_type", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": "many"}}, "invalid_type", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 257}}, "integer_above_max_value", "hyperparameters.batch_size"),
        ({"hyperparameters": {"learning_rate_multiplier": 0}}, "decimal_below_min_value", "hyperparameters.learning_rate_multiplier"),
        (
            {"method": {"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 0}}}},
            "integer_below_min_value",
            "method.supervised.hyperparameters.batch_size",
        ),
        ({"method": {"type": "magic"}}, "invalid_value", "method.type"),
        ({"method": {"type": "supervised", "dpo": {}}}, "unsupported_parameter", "method.dpo"),
        ({"suffix": ""}, "string_below_min_length", "suffix"),
        ({"suffix": "x" * 65}, "string_above_max_length", "suffix"),
        ({"seed": -1}, "integer_below_min_value", "seed"),
        ({"seed": 2**31}, "integer_above_max_value", "seed"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {"a": "x" * 513}}, "string_above_max_length", "metadata.a"),
        ({"metadata": {"k" * 65: "x"}}, "string_above_max_length", "metadata"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "object_above_max_properties", "metadata"),
        ({"integrations": [{"type": "mlflow"}]}, "invalid_value", "integrations[0].type"),
        ({"integrations": [{"type": "wandb", "wandb": {}}]}, "missing_required_parameter", "integrations[0].wandb.project"),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p", "tags": ["x" * 65]}}]},
            "string_above_max_length",
            "integrations[0].wandb.tags[0]",
        ),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p", "run_id": "x"}}]},
            "unknown_parameter",
            "integrations[0].wandb.run_id",
        ),
        ({"integrations": [{"type": "wandb"}]}, "missing_required_parameter", "integrations[0].wandb"),
        ({"training_file": None}, "invalid_type", "training_file"),
    ],
)
def test_bad_fields_are_400_in_openais_codes(server: ApiServer, training_file: str, fields: dict[str, Any], code: str, param: str) -> None:
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, **fields})
    assert (error["code"], error["param"], error["type"]) == (code, param, "invalid_request_error")


def test_the_wording_of_a_bound(server: ApiServer, training_file: str) -> None:
    error = refused(server, {"model": BASE_NAME, "training_file": training_file, "hyperparameters": {"n_epochs": 0}})
    expected = "Invalid 'hyperparameters.n_epochs': integer below minimum value. Expected a value >= 1, but got 0 instead."
    assert error["message"] == expected


def test_a_missing_model_is_named(server: ApiServer) -> None:
    error = refused(server, {"training_file": "file-x"})
    assert (error["message"], error["code"]) == ("Missing required parameter: 'model'.", "missing_required_parameter")


def test_jobs_are_listed_newest_first_by_pages(client: openai.OpenAI, training_file: str) -> None:
    ids = [create(client, training_file, metadata={"list": "pages"}).id for _ in range(3)]
    listed = client.fine_tuning.jobs.list(limit=2, metadata={"list": "pages"})
    assert listed.has_more
    assert [j.id for j in listed][:3] == ids[::-1]


def test_jobs_are_filtered_by_metadata(server: ApiServer, training_file: str) -> None:
    client = server.client()
    one = create(client, training_file, metadata={"filter": "one", "x": "1"}).id
    create(client, training_file, metadata={"filter": "two", "x": "1"})
    bare = create(client, training_file).id
    assert [j.id for j in client.fine_tuning.jobs.list(metadata={"filter": "one", "x": "1"})] == [one]
    assert bare in [j.id for j in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})]
    assert one not in [j.id for j in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})]


def test_an_empty_value_and_an_empty_filter(server: ApiServer, training_file: str) -> None:
    client = server.client()
    empty = create(client, training_file, metadata={"empty": ""}).id
    full = create(client, training_file, metadata={"empty": "no"}).id
    none = create(client, training_file, metadata={}).id
    bare = create(client, training_file).id
    listed = client.fine_tuning.jobs.list
    assert [j.id for j in listed(metadata={"empty": ""})] == [empty]
    assert [j.id for j in listed(metadata={}, limit=4).data] == [bare, none, full, empty]
    assert [j.id for j in listed(metadata=None, limit=4).data] == [bare, none, full, empty]
    assert [j.id for j in listed(extra_query={"metadata": "null"}, limit=1).data] == [bare]
    assert none not in [j.id for j in listed(extra_query={"metadata": "null"}, limit=100)]
    with pytest.raises(openai.BadRequestError) as error:
        listed(extra_query={"metadata": "team"})
    assert (error.value.code, error.value.param) == ("invalid_value", "metadata")


def test_cancel_is_at_once_and_only_once(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file)
    cancelled = client.fine_tuning.jobs.cancel(job.id)
    assert cancelled.status == "cancelled"
    assert cancelled.finished_at is not None
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.cancel(job.id)
    assert "ompleted" in error.value.message or "cancel" in error.value.message
    newest = client.fine_tuning.jobs.list_events(job.id).data[0]
    assert (newest.level, newest.message) == ("warn", "Fine tuning process stopping due to job cancellation")


def test_the_first_events_are_openais(client: openai.OpenAI, training_file: str) -> None:
    job = create(client, training_file)
    events = client.fine_tuning.jobs.list_events(job.id, limit=300).data
    assert [e.message for e in events] == [f"Validating training file: {training_file}", f"Created fine-tuning job: {job.id}"]
    assert all(e.object == "fine_tuning.job.event" and e.type == "message" and e.id.startswith("ftevent-") for e in events)


def running_job(server: ApiServer, training_file: str) -> tuple[str, int]:
    job_id = create(server.client(), training_file).id
    queue, jobs = server.services.queue, server.services.jobs
    while True:
        leased = queue.lease("owner-test", [JobStatus.VALIDATING_FILES])
        assert leased is not None
        if leased.id == job_id:
            break
    jobs.update(
        job_id, fence=leased.fence, changes={"status": JobStatus.QUEUED}, events=[note("Files validated, moving job to queued state")]
    )
    jobs.update(job_id, fence=leased.fence, changes={"status": JobStatus.RUNNING}, events=[note("Fine-tuning job started")])
    return job_id, leased.fence


def test_metrics_events_and_checkpoints_are_shown(server: ApiServer, client: openai.OpenAI, training_file: str) -> None:
    job_id, fence = running_job(server, training_file)
    metrics = {"step": 1, "total_steps": 10, "train_loss": 1.25}
    event = NewEvent(created_at=5, level="info", message="Step 1/10: training loss=1.25", type="metrics", data=metrics)
    points = [new_checkpoint(job_id, step) for step in (5, 10)]
    server.services.jobs.update(job_id, fence=fence, events=[event], checkpoints=points)
    newest = client.fine_tuning.jobs.list_events(job_id, limit=1)
    assert newest.has_more
    assert (newest.data[0].type, newest.data[0].data) == ("metrics", metrics)
    assert len(list(client.fine_tuning.jobs.list_events(job_id, limit=1))) == 5
    listed = list(client.fine_tuning.jobs.checkpoints.list(job_id, limit=1))
    assert [c.step_number for c in listed] == [10, 5]
    assert listed[0].fine_tuned_model_checkpoint == points[1].model_name
    assert listed[0].metrics.train_loss == 0.5


def test_a_failed_job_shows_its_error(server: ApiServer, client: openai.OpenAI, training_file: str) -> None:
    job_id, fence = running_job(server, training_file)
    error = {"code": "invalid_n_examples", "message": "Training file has 7 example(s)", "param": "training_file"}
    server.services.jobs.update(
        job_id, fence=fence, changes={"status": JobStatus.FAILED, "error": error}, events=[note("failed", level="error")]
    )
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.model_dump() == error


@pytest.mark.parametrize("what", ["retrieve", "cancel", "list_events"])
def test_an_unknown_job_is_not_found(client: openai.OpenAI, what: str) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        getattr(client.fine_tuning.jobs, what)("ftjob-nothing")
    assert (error.value.code, error.value.param) == ("fine_tune_not_found", "fine_tune_id")
    assert "Could not find fine tune: ftjob-nothing" in error.value.message


def test_unknown_cursors_and_limits_are_refused(server: ApiServer, training_file: str) -> None:
    client = server.client()
    job = create(client, training_file)
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.list(after="ftjob-nothing")
    with pytest.raises(openai.NotFoundError):
        client.fine_tuning.jobs.list_events(job.id, after="ftevent-nothing")
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.list(limit=0)
    assert (error.value.code, error.value.param) == ("integer_below_min_value", "limit")
    with pytest.raises(openai.BadRequestError) as error:
        client.fine_tuning.jobs.list(extra_query={"limit": "many"})
    assert error.value.code == "invalid_type"


def post_job(server: ApiServer, training_file: str, **headers: str) -> Any:
    body = json.dumps({"model": BASE_NAME, "training_file": training_file})
    with server.http(**headers) as http:
        return http.post("/v1/fine_tuning/jobs", content=body, headers={"content-type": "application/json"})


def test_a_retry_after_a_lost_answer_makes_no_second_job(server: ApiServer, training_file: str) -> None:
    first = post_job(server, training_file, **{"x-stainless-retry-count": "0"}).json()["id"]
    again = post_job(server, training_file, **{"x-stainless-retry-count": "1"}).json()["id"]
    assert first == again


def test_two_deliberate_creates_make_two_jobs(server: ApiServer, training_file: str) -> None:
    ids = {post_job(server, training_file, **{"x-stainless-retry-count": "0"}).json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_an_idempotency_key_means_one_job(server: ApiServer, training_file: str, rows: bytes) -> None:
    key = {"idempotency-key": "key-" + training_file}
    first, again = (post_job(server, training_file, **key).json()["id"] for _ in range(2))
    assert first == again
    other = server.client().files.create(file=rows, purpose="fine-tune").id
    reused = post_job(server, other, **key)
    assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert reused.headers["x-should-retry"] == "false"


def test_noise_and_weighted_prompts_are_for_supervised_jobs(server: ApiServer, training_file: str) -> None:
    asked = {"gradient_checkpointing": True, "neftune_alpha": 5, "prompt_loss_weight": 0.1}
    job = create(server.client(), training_file, extra_body={"luthier": asked})
    assert job.luthier["options"] == asked
    body = {"model": BASE_NAME, "training_file": training_file, "method": {"type": "dpo"}, "luthier": {"neftune_alpha": 5}}
    expected = "'luthier.neftune_alpha' belongs to supervised fine-tuning and has no meaning with the method 'dpo'."
    assert refused(server, body)["message"] == expected
