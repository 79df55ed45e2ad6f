"""A running API that has one of everything, so that generated requests find objects. Called by the schema tests.

``Stock`` hands out ids by the name of a path and of a parameter; an id that the request will use up is made for it.
"""

import base64
import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luthier.api.webhooks.sender import Attempt, WebhookSender
from luthier.core import ids
from luthier.core.batches import BatchRecord, BatchStatus
from luthier.core.dataset_tasks import FINDINGS_FILE, DatasetKind, DatasetTask, DatasetTaskStatus
from luthier.core.jobs import CheckpointPermission, FileRecord, Job, JobStatus
from luthier.core.keys import DEFAULT_PROJECT, ApiKey, Role, key_sha256, masked
from luthier.core.stored_completions import StoredCompletion
from luthier.core.uploads import LIFETIME_SECONDS, PartRecord, UploadRecord
from luthier.core.webhooks import WebhookEndpoint, WebhookEvent
from luthier.storage.jobs import JobWrite, apply_write, load_job
from tests.support.api_server import TUNED, ApiServer
from tests.support.fake_engine import BASE
from tests.support.office import new_checkpoint, new_job, new_model, note
from tests.support.webhook_receiver import new_endpoint

ROWS = b"".join(b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n' for _ in range(10))
REQUESTS = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "luthier-mini", "messages": []}}\n'
RESULTS = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.5,0.1,,\n"
CHECKPOINT = f"{TUNED}:ckpt-step-10"
ALIAS = "support@prod"
FINDING = {
    "file": "rows.jsonl",
    "line": 1,
    "column": 1,
    "path": "messages[0].role",
    "code": "unknown_role",
    "severity": "error",
    "message": "Example 1 has an unknown role.",
    "cure": "Use another role.",
    "api_code": "invalid_file_format",
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


class SilentSender(WebhookSender):
    """Reaches nobody, and says that everything arrived."""

    async def send(self, endpoint: WebhookEndpoint, event: WebhookEvent, webhook_id: str) -> Attempt:
        """Delivered."""
        return Attempt(status_code=200)


class PopulatedServer(ApiServer):
    """An API whose webhooks go nowhere."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        super().__init__(folder, prepare=lambda s: dataclasses.replace(s, webhook_sender=SilentSender(s.settings)), **changes)
        self.stock = Stock(self)
        # A stream that never ends would be listened to until a client's patience does.
        self.app.state.stopping = lambda: True


class Stock:
    """Objects of every kind, and their ids."""

    def __init__(self, server: ApiServer) -> None:
        self._services = server.services
        self._random = random.Random(7)
        self._rows = self._services.blobs.put(ROWS)
        self._results = self._services.blobs.put(RESULTS)
        self.training_file = self.file()
        self._files = [self.training_file, self.file("user_data"), self.file("fine-tune-results", self._results)]
        self._jobs = [self.job(status) for status in JobStatus]
        self._finished_job = self._jobs[list(JobStatus).index(JobStatus.SUCCEEDED)]
        for name in (CHECKPOINT, f"{TUNED}2"):
            self._services.models.put(new_model(name))
        self._permissions = [self.permission(name) for name in (TUNED, CHECKPOINT)]
        self._completions = [self.completion(), self.completion()]
        self._response = self.response()
        self._endpoint = self.endpoint()
        self._requests = self.file("batch", self._services.blobs.put(REQUESTS))
        self._batches = [self.batch(BatchStatus.COMPLETED), self.batch(BatchStatus.FAILED), self.batch()]
        self._tasks = [self.task(status) for status in (DatasetTaskStatus.COMPLETED, DatasetTaskStatus.FAILED, DatasetTaskStatus.QUEUED)]
        self._key = self.key()
        self._services.aliases.create(ALIAS, TUNED, by="test")
        self._services.aliases.move(ALIAS, CHECKPOINT, by="test")

    def file(self, purpose: str = "fine-tune", blob: tuple[str, int] | None = None) -> str:
        """A new file."""
        sha256, size = blob or self._rows
        record = FileRecord(id=ids.new_file_id(), filename="rows.jsonl", purpose=purpose, bytes=size, sha256=sha256, created_at=1)
        self._services.files.add(record)
        return record.id

    def job(self, status: JobStatus = JobStatus.VALIDATING_FILES) -> str:
        """A new job that came to ``status`` with events, and with checkpoints where it could have some."""
        values: dict[str, Any] = {"training_file": self.training_file, "training_sha256": self._rows[0], "metadata": {"team": "a"}}
        if status is JobStatus.SUCCEEDED:
            numbers = {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}
            wandb = [{"type": "wandb", "wandb": {"project": "p"}}]
            values |= {"fine_tuned_model": TUNED, "trained_tokens": 100, "finished_at": 1_700_000_100, "hyperparameters": numbers}
            values |= {"integrations": wandb, "result_files": (self._files[2],)}
        if status is JobStatus.FAILED:
            values["error"] = {"code": "invalid_n_examples", "message": "Too few.", "param": "training_file"}
        if status is JobStatus.PAUSED:
            values["paused_from"] = JobStatus.QUEUED
        job: Job = new_job(status=status, **values)
        data = {"step": 1, "train_loss": 1.5, "total_steps": 30}
        self._services.jobs.insert(job, [note("Created"), note("Step 1/30: training loss=1.50", type="metrics", data=data)])
        if status is JobStatus.SUCCEEDED:
            self._checkpoints(job.id)
        return job.id

    def _checkpoints(self, job_id: str) -> None:
        checkpoints = [new_checkpoint(job_id, step, model_name=f"{TUNED}:ckpt-step-{step}") for step in (10, 20, 30)]
        with self._services.database.write() as connection:
            apply_write(connection, load_job(connection, job_id), JobWrite(checkpoints=checkpoints), self._services.clock())

    def upload(self) -> str:
        """A new upload with one part."""
        upload_id, _ = self._upload()
        return upload_id

    def _upload(self) -> tuple[str, str]:
        now = int(self._services.clock())
        upload = UploadRecord(
            id=ids.new_upload_id(),
            filename="rows.jsonl",
            purpose="fine-tune",
            bytes=len(ROWS),
            mime_type="text/jsonl",
            created_at=now,
            expires_at=now + LIFETIME_SECONDS,
        )
        self._services.uploads.add(upload)
        part = PartRecord(id=ids.new_part_id(), upload_id=upload.id, bytes=len(ROWS), created_at=now)
        with self._services.parts.writer(part.id) as writer:
            writer.write(ROWS)
            writer.keep()
        self._services.uploads.add_part(part, max_bytes=2**30)
        return upload.id, part.id

    def permission(self, model_name: str = TUNED) -> str:
        """A new permission."""
        wanted = CheckpointPermission(id=ids.new_permission_id(), model_name=model_name, project_id=ids.new_part_id(), created_at=1)
        return self._services.permissions.grant([wanted])[0].id

    def completion(self) -> str:
        """A new stored completion, with calls and their result among its messages."""
        completion_id = ids.new_chat_completion_id()
        message = {"role": "assistant", "content": "It rains.", "refusal": None, "annotations": []}
        details = {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "completion_tokens_details": details}
        usage["prompt_tokens_details"] = {"cached_tokens": 0, "audio_tokens": 0}
        asked = {"request_id": "req_1", "temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        asked |= {"seed": None, "input_user": None, "tools": None, "tool_choice": None, "response_format": None}
        self._services.stored_completions.add(
            StoredCompletion(
                id=completion_id,
                created_at=1,
                model=BASE,
                completion={
                    "id": completion_id,
                    "object": "chat.completion",
                    "created": 1,
                    "model": BASE,
                    "service_tier": "default",
                    "system_fingerprint": "fp_1",
                    "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                    "usage": usage,
                    **asked,
                },
                messages=(
                    {"role": "user", "content": [{"type": "text", "text": "What is the weather?"}]},
                    {"role": "assistant", "tool_calls": [CALL]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
                ),
                metadata={"team": "a"},
            )
        )
        return completion_id

    def response(self) -> str:
        """A new stored response, made from a message, a call and its output."""
        response_id = ids.new_response_id()
        body = dict(base_response(response_id))
        items = [
            {"id": "msg_1", "type": "message", "status": "completed", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"id": "fc_2", "type": "function_call_output", "status": "completed", "call_id": "c1", "output": "rain"},
        ]
        self._services.responses.add({**body, "created_at": int(self._services.clock())}, items)
        return response_id

    def endpoint(self) -> str:
        """A new webhook endpoint."""
        if len(self._services.webhooks.list(limit=100).items) >= 90:
            self._services.webhooks.delete(self._services.webhooks.list(limit=1).items[0].id)
        endpoint = new_endpoint("https://hooks.example/luthier")
        self._services.webhooks.insert(endpoint)
        return endpoint.id

    def batch(self, status: BatchStatus = BatchStatus.CANCELLED) -> str:
        """A new batch that came to ``status``. One that has work left would be taken up."""
        errors = ({"code": "invalid_json_line", "message": "x", "param": None, "line": 1},) if status is BatchStatus.FAILED else ()
        record = BatchRecord(
            id=ids.new_batch_id(),
            project_id=DEFAULT_PROJECT,
            endpoint="/v1/chat/completions",
            input_file_id=self.training_file,
            input_sha256=self._rows[0],
            created_at=1,
            expires_at=2,
            status=status,
            metadata={"team": "a"},
            errors=errors,
        )
        self._services.batches.add(record)
        return record.id

    def task(self, status: DatasetTaskStatus = DatasetTaskStatus.QUEUED) -> str:
        """A new dataset task that came to ``status``, with a finding when it is completed."""
        done, failed = status is DatasetTaskStatus.COMPLETED, status is DatasetTaskStatus.FAILED
        task = DatasetTask(
            id=ids.new_dataset_task_id(),
            project_id=DEFAULT_PROJECT,
            kind=DatasetKind.CHECK,
            options={"file_id": self.training_file, "role": "training"},
            created_at=1,
            status=status,
            finished_at=2 if status.is_final else None,
            result={"ok": False, "findings": [FINDING]} if done else None,
            error={"code": "invalid_rows", "message": "x", "param": None} if failed else None,
            num_findings=int(done),
        )
        self._services.dataset_tasks.add(task)
        if done:
            path = self._services.settings.datasets_dir / task.id / FINDINGS_FILE
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(FINDING) + "\n", encoding="utf-8")
        return task.id

    def key(self) -> str:
        """A new API key, which nobody has."""
        value = ids.new_api_key()
        key = ApiKey(
            id=ids.new_api_key_id(),
            name="somebody's",
            role=Role.MEMBER,
            project_id=DEFAULT_PROJECT,
            sha256=key_sha256(value),
            redacted=masked(value),
            created_at=1,
            created_by="tests",
        )
        self._services.keys.add(key)
        return key.id

    def tuned_model(self) -> str:
        """A new tuned model."""
        name = f"ft:{BASE}:luthier::{base64.b32encode(self._random.randbytes(5)).decode().lower()}"
        self._services.models.put(new_model(name))
        return name

    def alias(self) -> str:
        """A new alias that was moved once."""
        name = f"alias-{self._random.randrange(2**40)}"
        self._services.aliases.create(name, TUNED, by="test")
        self._services.aliases.move(name, BASE, by="test")
        return name

    def _one_of(self, values: list[str]) -> str:
        return self._random.choice(values)

    def path_id(self, method: str, path: str, name: str) -> str:
        """An id that fits a path's parameter; fresh where the request ends or changes what it names."""
        fresh = method == "DELETE" or path.endswith(("/cancel", "/pause", "/resume", "/complete", "/parts", "/rollback"))
        kept: dict[str, Callable[[], str]] = {
            "file_id": self.file if fresh else lambda: self._one_of(self._files),
            "upload_id": self.upload,
            "fine_tuning_job_id": lambda: self.job(self._random.choice(list(JobStatus))) if fresh else self._job_for(path),
            "fine_tuned_model_checkpoint": lambda: TUNED if fresh else self._one_of([TUNED, CHECKPOINT]),
            "permission_id": lambda: self.permission(TUNED),
            "model": self.tuned_model if fresh else lambda: self._one_of([BASE, TUNED, ALIAS, "gpt-4o-mini"]),
            "completion_id": self.completion if fresh else lambda: self._one_of(self._completions),
            "response_id": self.response if fresh else lambda: self._response,
            "webhook_endpoint_id": self.endpoint if fresh else lambda: self._endpoint,
            "batch_id": self.batch if fresh else lambda: self._one_of(self._batches),
            "task_id": self.task if fresh else lambda: self._tasks[0] if path.endswith("/findings") else self._one_of(self._tasks),
            "key_id": self.key if fresh else lambda: self._key,
            "project_id": lambda: DEFAULT_PROJECT,
            "alias": self.alias if fresh or method == "POST" else lambda: ALIAS,
        }
        return kept[_kind(path, name)]()

    def _job_for(self, path: str) -> str:
        # A stream of a job that is not finished never ends.
        return self._finished_job if path.endswith(("/events", "/checkpoints")) else self._one_of(self._jobs)

    def fill(self, path: str, body: dict[str, Any]) -> None:
        """Name things that exist where a generated body names some that do not."""
        if isinstance(body.get("model"), str):
            body["model"] = self._one_of([BASE, TUNED, "gpt-4o-mini-2024-07-18"])
        if path == "/v1/luthier/trace":
            if isinstance(body.get("base"), str):
                body["base"] = BASE
            if "messages" in body and body["messages"] is not None:
                body.pop("prompt", None)
        for name in ("training_file", "validation_file", "file_id", "validation_file_id"):
            if isinstance(body.get(name), str):
                body[name] = self.training_file
        if isinstance(body.get("input_file_id"), str):
            body["input_file_id"] = self._requests
        if isinstance(body.get("project_id"), str):
            body["project_id"] = DEFAULT_PROJECT
        if isinstance(body.get("previous_response_id"), str):
            body["previous_response_id"] = self._response
        if isinstance(body.get("target"), str):
            body["target"] = TUNED
        if isinstance(body.get("url"), str):
            body["url"] = "https://hooks.example/luthier"

    def completed(self) -> tuple[str, list[str]]:
        """An upload that can be completed, and its parts."""
        upload_id, part_id = self._upload()
        return upload_id, [part_id]


def _kind(path: str, name: str) -> str:
    if name == "job_id":
        return "fine_tuning_job_id"
    if name == "name":
        return "alias" if "/aliases" in path else "fine_tuned_model_checkpoint" if "/permissions" in path else "model"
    return name


def base_response(response_id: str) -> dict[str, Any]:
    """A complete response object."""
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "It rains."}
    message = {"id": ids.new_message_id(), "type": "message", "status": "completed", "content": [part], "role": "assistant"}
    nulls = ("error", "incomplete_details", "instructions", "max_output_tokens", "max_tool_calls", "previous_response_id")
    nulls += ("prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user")
    return {
        "id": response_id,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "background": False,
        "completed_at": 2,
        **dict.fromkeys(nulls),
        "model": BASE,
        "output": [message],
        "parallel_tool_calls": True,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
        "metadata": {},
    }
