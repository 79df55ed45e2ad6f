"""``method``: preference tuning is offered; every field of reinforcement tuning is checked, and it is not offered yet."""

import json
from typing import Any, cast

import openai
import pytest

from tests.support.api_server import ApiServer
from tests.support.finished_job import finish_job

BASE_NAME = "gpt-4o-mini-2024-07-18"
CHECK = {"type": "string_check", "name": "exact", "input": "{{sample.output_text}}", "reference": "{{item.answer}}", "operation": "eq"}
SIMILAR = {**{k: CHECK[k] for k in ("name", "input", "reference")}, "type": "text_similarity", "evaluation_metric": "rouge_l"}
SCORE = {
    "type": "score_model",
    "name": "judge",
    "model": "gpt-4o-mini",
    "input": [
        {"role": "user", "content": "Judge {{sample.output_text}}"},
        {"role": "system", "type": "message", "content": {"type": "input_text", "text": "From 0 to 1."}},
        {"role": "assistant", "content": ["Yes", {"type": "output_text", "text": "Sure"}]},
    ],
    "range": [0, 1.5],
    "sampling_params": {"seed": 1, "top_p": 0.5, "temperature": 0.2, "max_completions_tokens": 10, "reasoning_effort": "low"},
}
PYTHON = {"type": "python", "source": "def grade(sample, item):\n    return 1.0", "image_tag": "2025-05-08", "pass_threshold": 0.5}
LABEL = {"type": "label_model", "name": "l", "model": "m", "input": SCORE["input"], "labels": ["good", "bad"], "passing_labels": ["good"]}
MULTI = {"type": "multi", "name": "all", "graders": {"a": CHECK, "b": LABEL}, "calculate_output": "0.5 * a + 0.5 * b"}
FORMAT = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": {"type": "object"}}}


REWARDS = {"train_reward_accuracy": 0.75, "train_reward_margin": 0.5, "train_reward_chosen": 0.25, "train_reward_rejected": -0.25}


@pytest.fixture
def preference_file(server: ApiServer) -> str:
    row = {
        "input": {"messages": [{"role": "user", "content": "hi"}]},
        "preferred_output": [{"role": "assistant", "content": "Good day."}],
        "non_preferred_output": [{"role": "assistant", "content": "What?"}],
    }
    rows = b"".join(json.dumps(row).encode() + b"\n" for _ in range(10))
    return server.client().files.create(file=("pairs.jsonl", rows), purpose="fine-tune").id


def refused(server: ApiServer, training_file: str, method: dict[str, Any], **fields: Any) -> dict[str, Any]:
    jobs = server.client().fine_tuning.jobs
    before = jobs.list(limit=1).data
    body = {"model": BASE_NAME, "training_file": training_file, "validation_file": training_file, "method": method, **fields}
    with server.http() as http:
        answer = http.post("/v1/fine_tuning/jobs", json=body)
    assert answer.status_code == 400, answer.text
    assert jobs.list(limit=1).data == before, "nothing is stored"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    return answer.json()["error"]


def reinforcement(grader: object, **fields: Any) -> dict[str, Any]:
    return {"type": "reinforcement", "reinforcement": {"grader": grader, **fields}}


@pytest.mark.parametrize(
    "method",
    [
        *(reinforcement(grader) for grader in (CHECK, SIMILAR, SCORE, PYTHON, MULTI)),
        reinforcement({**MULTI, "graders": [CHECK, SIMILAR]}),
        reinforcement({**MULTI, "graders": SCORE}),
        reinforcement(CHECK, response_format=FORMAT),
        reinforcement(
            CHECK,
            hyperparameters={
                "n_epochs": 1,
                "batch_size": "auto",
                "learning_rate_multiplier": 2,
                "reasoning_effort": "default",
                "compute_multiplier": 10,
                "eval_interval": 1,
                "eval_samples": "auto",
            },
        ),
    ],
)
def test_a_good_request_is_refused_because_the_method_is_not_offered(server: ApiServer, training_file: str, method: dict[str, Any]) -> None:
    error = refused(server, training_file, method)
    assert (error["code"], error["param"]) == ("unsupported_value", "method.type")
    assert error["message"] == (
        f"Unsupported value: 'method.type' does not support '{method['type']}'. Supported values are: 'supervised' and 'dpo'."
    )


AUTO = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto", "beta": "auto"}


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({}, AUTO),
        ({"dpo": {}}, AUTO),
        ({"dpo": {"hyperparameters": {}}}, AUTO),
        (
            {"dpo": {"hyperparameters": {"beta": "auto", "batch_size": 256, "n_epochs": 50, "learning_rate_multiplier": "auto"}}},
            {**AUTO, "batch_size": 256, "n_epochs": 50},
        ),
        (
            {"dpo": {"hyperparameters": {"beta": 2, "n_epochs": 1, "learning_rate_multiplier": 0.001}}},
            {**AUTO, "beta": 2, "n_epochs": 1, "learning_rate_multiplier": 0.001},
        ),
        ({"dpo": {"hyperparameters": {"beta": 0.1}}}, {**AUTO, "beta": 0.1}),
    ],
)
def test_a_preference_job_is_created_and_shows_its_method(
    server: ApiServer, client: openai.OpenAI, preference_file: str, part: dict[str, Any], shown: dict[str, Any]
) -> None:
    job = client.fine_tuning.jobs.create(
        model=BASE_NAME, training_file=preference_file, validation_file=preference_file, method=cast("Any", {"type": "dpo", **part})
    )
    for found in (job, client.fine_tuning.jobs.retrieve(job.id)):
        assert found.method is not None
        assert (found.method.type, found.method.supervised, found.method.reinforcement) == ("dpo", None, None)
        assert found.method.dpo is not None
        assert found.method.dpo.hyperparameters is not None
        assert found.method.dpo.hyperparameters.model_dump() == shown
        assert found.hyperparameters.model_dump() == {name: value for name, value in shown.items() if name != "beta"}
    client.fine_tuning.jobs.cancel(job.id)


def test_a_finished_preference_job_shows_its_numbers_events_checkpoints_and_result(
    server: ApiServer, client: openai.OpenAI, preference_file: str
) -> None:
    asked = client.fine_tuning.jobs.create(model=BASE_NAME, training_file=preference_file, method={"type": "dpo"})
    finish_job(server.services, asked.id, beta=0.1, extra=REWARDS)
    job = client.fine_tuning.jobs.retrieve(asked.id)
    assert job.status == "succeeded"
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.1
    step = next(event for event in client.fine_tuning.jobs.list_events(job.id) if event.type == "metrics")
    assert isinstance(step.data, dict)
    assert step.data["train_reward_accuracy"] == REWARDS["train_reward_accuracy"]
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[0]
    assert checkpoint.metrics.train_loss == 0.5
    assert checkpoint.metrics.model_dump()["train_reward_margin"] == REWARDS["train_reward_margin"]
    assert client.files.content(job.result_files[0]).read()


DPO = "method.dpo.hyperparameters"
RFT = "method.reinforcement.hyperparameters"


@pytest.mark.parametrize(
    ("method", "hyperparameters", "code", "param"),
    [
        ("dpo", {"beta": 0}, "decimal_below_min_value", f"{DPO}.beta"),
        ("dpo", {"beta": 2.1}, "decimal_above_max_value", f"{DPO}.beta"),
        ("dpo", {"beta": "high"}, "invalid_type", f"{DPO}.beta"),
        ("dpo", {"n_epochs": 51}, "integer_above_max_value", f"{DPO}.n_epochs"),
        ("dpo", {"eval_interval": 1}, "unknown_parameter", f"{DPO}.eval_interval"),
        ("reinforcement", {"batch_size": 0}, "integer_below_min_value", f"{RFT}.batch_size"),
        ("reinforcement", {"beta": 1}, "unknown_parameter", f"{RFT}.beta"),
        ("reinforcement", {"reasoning_effort": "xhigh"}, "invalid_value", f"{RFT}.reasoning_effort"),
        ("reinforcement", {"compute_multiplier": 0.00001}, "decimal_below_min_value", f"{RFT}.compute_multiplier"),
        ("reinforcement", {"compute_multiplier": 10.5}, "decimal_above_max_value", f"{RFT}.compute_multiplier"),
        ("reinforcement", {"eval_interval": 0}, "integer_below_min_value", f"{RFT}.eval_interval"),
        ("reinforcement", {"eval_samples": 1.5}, "invalid_type", f"{RFT}.eval_samples"),
    ],
)
def test_hyperparameters(
    server: ApiServer, training_file: str, method: str, hyperparameters: dict[str, Any], code: str, param: str
) -> None:
    part = {"hyperparameters": hyperparameters, **({"grader": CHECK} if method == "reinforcement" else {})}
    error = refused(server, training_file, {"type": method, method: part})
    assert (error["code"], error["param"]) == (code, param)


GRADER = "method.reinforcement.grader"


@pytest.mark.parametrize(
    ("grader", "code", "param"),
    [
        ("exact", "invalid_type", GRADER),
        ({}, "missing_required_parameter", f"{GRADER}.type"),
        ({"type": "endpoint"}, "invalid_value", f"{GRADER}.type"),
        (LABEL, "invalid_value", f"{GRADER}.type"),
        ({**CHECK, "operation": "neq"}, "invalid_value", f"{GRADER}.operation"),
        ({k: v for k, v in CHECK.items() if k != "name"}, "missing_required_parameter", f"{GRADER}.name"),
        ({**CHECK, "input": 3}, "invalid_type", f"{GRADER}.input"),
        ({**CHECK, "weight": 1}, "unknown_parameter", f"{GRADER}.weight"),
        ({**SIMILAR, "evaluation_metric": "cosine"}, "invalid_value", f"{GRADER}.evaluation_metric"),
        ({**PYTHON, "source": "#" * 262_144}, "string_above_max_length", f"{GRADER}.source"),
        ({"type": "python", "name": "p"}, "missing_required_parameter", f"{GRADER}.source"),
        ({**SCORE, "range": [1]}, "array_below_min_length", f"{GRADER}.range"),
        ({**SCORE, "input": []}, "array_below_min_length", f"{GRADER}.input"),
        ({**SCORE, "input": [{"role": "tool", "content": "x"}]}, "invalid_value", f"{GRADER}.input[0].role"),
        ({**SCORE, "input": [{"role": "user"}]}, "missing_required_parameter", f"{GRADER}.input[0].content"),
        ({**SCORE, "input": [{"role": "user", "content": ["x", 3]}]}, "invalid_type", f"{GRADER}.input[0].content[1]"),
        (
            {**SCORE, "sampling_params": {"max_completions_tokens": 0}},
            "integer_below_min_value",
            f"{GRADER}.sampling_params.max_completions_tokens",
        ),
        ({**MULTI, "graders": {}}, "array_below_min_length", f"{GRADER}.graders"),
        ({**MULTI, "graders": {"a": MULTI}}, "invalid_value", f"{GRADER}.graders.a.type"),
        ({**MULTI, "graders": [{**CHECK, "operation": "is"}]}, "invalid_value", f"{GRADER}.graders[0].operation"),
        ({**MULTI, "graders": {"b": {**LABEL, "passing_labels": ["fine"]}}}, "invalid_value", f"{GRADER}.graders.b.passing_labels"),
        ({k: v for k, v in MULTI.items() if k != "calculate_output"}, "missing_required_parameter", f"{GRADER}.calculate_output"),
    ],
)
def test_graders(server: ApiServer, training_file: str, grader: object, code: str, param: str) -> None:
    error = refused(server, training_file, reinforcement(grader))
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize(
    ("method", "fields", "code", "param"),
    [
        ({"type": "reinforcement"}, {}, "missing_required_parameter", "method.reinforcement"),
        ({"type": "reinforcement", "reinforcement": {}}, {}, "missing_required_parameter", f"{GRADER}"),
        (reinforcement(CHECK), {"validation_file": None}, "missing_required_parameter", "validation_file"),
        ({"type": "dpo", "supervised": {}}, {}, "unsupported_parameter", "method.supervised"),
        ({**reinforcement(CHECK), "dpo": {}}, {}, "unsupported_parameter", "method.dpo"),
        ({"type": "dpo"}, {"hyperparameters": {"n_epochs": 1}}, "unsupported_parameter", "hyperparameters"),
        (reinforcement(CHECK, response_format={"type": "text"}), {}, "invalid_value", "method.reinforcement.response_format.type"),
        (
            reinforcement(CHECK, response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
            {},
            "missing_required_parameter",
            "method.reinforcement.response_format.json_schema.schema",
        ),
    ],
)
def test_parts_that_do_not_fit(
    server: ApiServer, training_file: str, method: dict[str, Any], fields: dict[str, Any], code: str, param: str
) -> None:
    error = refused(server, training_file, method, **fields)
    assert (error["code"], error["param"]) == (code, param)
