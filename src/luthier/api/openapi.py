"""The OpenAPI document of this server, built from its routes and from the schemas that read bodies.

What it does: takes paths, methods and parameters from the route table, bodies from the schema of each route's ``JsonBody``,
answers from ``schemas/objects.py`` and ``schemas/answer_objects.py`` by the table below. What it does not: check
requests or answers while they are served; ``tests/contract/test_openapi.py`` does, with generated requests. Called by
``routes/luthier.py`` and ``scripts/make_docs.py``.
"""

import copy
from collections.abc import Iterator
from typing import Any

import fastapi.routing
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from luthier import __version__
from luthier.api.bodies import JsonBody
from luthier.api.file_rules import PURPOSES
from luthier.api.schemas import (
    account_objects,
    answer_objects,
    batch_objects,
    dashboard_objects,
    dataset_objects,
    dataset_results,
    objects,
    prediction,
    webhook_objects,
)
from luthier.trace.events import PAYLOADS

Plain = dict[str, Any]

_REF = "#/components/schemas/{model}"
_BYTES: Plain = {"type": "string", "format": "binary"}
_TEXT: Plain = {"type": "string"}

ANSWERS: dict[str, type[BaseModel]] = {
    "POST /v1/files": objects.File,
    "GET /v1/files": objects.PageOf[objects.File],
    "GET /v1/files/{file_id}": objects.File,
    "DELETE /v1/files/{file_id}": objects.Deleted,
    "POST /v1/uploads": objects.Upload,
    "POST /v1/uploads/{upload_id}/parts": objects.UploadPart,
    "POST /v1/uploads/{upload_id}/complete": objects.Upload,
    "POST /v1/uploads/{upload_id}/cancel": objects.Upload,
    "POST /v1/fine_tuning/jobs": objects.Job,
    "GET /v1/fine_tuning/jobs": objects.ListOf[objects.Job],
    "GET /v1/fine_tuning/jobs/{job_id}": objects.Job,
    "POST /v1/fine_tuning/jobs/{job_id}/cancel": objects.Job,
    "POST /v1/fine_tuning/jobs/{job_id}/pause": objects.Job,
    "POST /v1/fine_tuning/jobs/{job_id}/resume": objects.Job,
    "GET /v1/fine_tuning/jobs/{job_id}/events": objects.ListOf[objects.Event],
    "GET /v1/fine_tuning/jobs/{job_id}/checkpoints": objects.PageOf[objects.Checkpoint],
    "POST /v1/fine_tuning/checkpoints/{name}/permissions": objects.PageOf[objects.Permission],
    "GET /v1/fine_tuning/checkpoints/{name}/permissions": objects.PageOf[objects.Permission],
    "DELETE /v1/fine_tuning/checkpoints/{name}/permissions/{permission_id}": objects.Deleted,
    "GET /v1/models": objects.ModelList,
    "GET /v1/models/{name}": objects.Model,
    "DELETE /v1/models/{name}": objects.Deleted,
    "POST /v1/chat/completions": answer_objects.ChatCompletion,
    "GET /v1/chat/completions": objects.PageOf[answer_objects.StoredChatCompletion],
    "GET /v1/chat/completions/{completion_id}": answer_objects.StoredChatCompletion,
    "POST /v1/chat/completions/{completion_id}": answer_objects.StoredChatCompletion,
    "DELETE /v1/chat/completions/{completion_id}": objects.Deleted,
    "GET /v1/chat/completions/{completion_id}/messages": objects.PageOf[answer_objects.StoredMessage],
    "POST /v1/completions": answer_objects.TextCompletion,
    "POST /v1/responses": answer_objects.ResponseObject,
    "GET /v1/responses/{response_id}": answer_objects.ResponseObject,
    "DELETE /v1/responses/{response_id}": objects.Deleted,
    "GET /v1/responses/{response_id}/input_items": objects.PageOf[answer_objects.ResponseItem],
    "POST /v1/responses/input_tokens": answer_objects.InputTokens,
    "GET /v1/webhook_event_types": webhook_objects.EventTypeList,
    "POST /v1/webhook_endpoints": webhook_objects.NewEndpoint,
    "GET /v1/webhook_endpoints": objects.PageOf[webhook_objects.Endpoint],
    "GET /v1/webhook_endpoints/{webhook_endpoint_id}": webhook_objects.Endpoint,
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}": webhook_objects.Endpoint,
    "DELETE /v1/webhook_endpoints/{webhook_endpoint_id}": objects.Deleted,
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret": webhook_objects.NewEndpoint,
    "POST /v1/webhook_endpoints/{webhook_endpoint_id}/test": webhook_objects.EndpointTest,
    "GET /v1/luthier/jobs/{job_id}/trace": objects.ListOf[objects.TraceEvent],
    "GET /v1/luthier/jobs/{job_id}/row_losses": objects.RowLossList,
    "POST /v1/luthier/render": objects.Rendering,
    "GET /v1/luthier/jobs": dashboard_objects.JobRowList,
    "POST /v1/luthier/jobs/cancel": objects.ListOf[dashboard_objects.Cancelled],
    "GET /v1/luthier/jobs/{job_id}/view": dashboard_objects.JobView,
    "GET /v1/luthier/jobs/{job_id}/metrics": dashboard_objects.Metrics,
    "GET /v1/luthier/system": dashboard_objects.System,
    "GET /v1/luthier/models": objects.ListOf[dashboard_objects.ModelRow],
    "POST /v1/luthier/demo": objects.Job,
    "POST /v1/luthier/trace": prediction.PredictionTraceObject,
    "POST /v1/luthier/files/from_completions": objects.FileFromCompletions,
    "GET /v1/luthier/aliases": objects.ListOf[objects.Alias],
    "POST /v1/luthier/aliases": objects.AliasWithHistory,
    "GET /v1/luthier/aliases/{name}": objects.AliasWithHistory,
    "POST /v1/luthier/aliases/{name}": objects.AliasWithHistory,
    "POST /v1/luthier/aliases/{name}/rollback": objects.AliasWithHistory,
    "DELETE /v1/luthier/aliases/{name}": objects.Deleted,
    "POST /v1/batches": batch_objects.Batch,
    "GET /v1/batches": objects.PageOf[batch_objects.Batch],
    "GET /v1/batches/{batch_id}": batch_objects.Batch,
    "POST /v1/batches/{batch_id}/cancel": batch_objects.Batch,
    "POST /v1/luthier/datasets/check": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/doctor": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/fix": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/redact": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/split": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/import": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/export": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/preview": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/forecast": dataset_objects.DatasetTask,
    "GET /v1/luthier/datasets/tasks": objects.PageOf[dataset_objects.DatasetTask],
    "GET /v1/luthier/datasets/tasks/{task_id}": dataset_objects.DatasetTask,
    "POST /v1/luthier/datasets/tasks/{task_id}/cancel": dataset_objects.DatasetTask,
    "GET /v1/luthier/datasets/tasks/{task_id}/findings": dataset_objects.FindingList,
    "GET /v1/luthier/datasets/uses": objects.ListOf[dataset_objects.DatasetUse],
    "POST /v1/luthier/keys": account_objects.NewKey,
    "GET /v1/luthier/keys": objects.ListOf[account_objects.Key],
    "GET /v1/luthier/keys/{key_id}": account_objects.Key,
    "POST /v1/luthier/keys/{key_id}": account_objects.Key,
    "DELETE /v1/luthier/keys/{key_id}": objects.Deleted,
    "POST /v1/luthier/projects": account_objects.Project,
    "GET /v1/luthier/projects": objects.ListOf[account_objects.Project],
    "GET /v1/luthier/projects/{project_id}": account_objects.Project,
    "GET /healthz": objects.Alive,
    "GET /readyz": objects.Ready,
}
"""The shape of each operation's success, where it is JSON."""

OTHER_ANSWERS: dict[str, Plain] = {
    "GET /v1/files/{file_id}/content": {"application/octet-stream": {"schema": _BYTES}, "text/csv": {"schema": _TEXT}},
    "GET /v1/luthier/datasets/tasks/{task_id}/findings": {
        "text/csv": {"schema": _TEXT},
        "application/jsonl": {"schema": _TEXT},
    },
    "GET /v1/luthier/stream": {"text/event-stream": {"schema": _TEXT}},
    "GET /v1/luthier/openapi.json": {"application/json": {"schema": {"type": "object"}}},
}
"""Successes that are no object of ours: media types."""

BESIDE: tuple[type[BaseModel], ...] = (
    dashboard_objects.Session,
    *dataset_results.RESULTS.values(),
)
"""Shapes that no route's answer names: of the session, and of what a dataset task leaves, by its kind."""

_TOLD_WHOLE = (*PAYLOADS, "Forecast", "TimePart", "LengthBucket", "Span")
"""Plain values that are told with every field, also those that have a default for older logs."""

NEVER_SUCCEEDS = frozenset({"POST /v1/responses/{response_id}/cancel"})
"""Operations that only exist to be refused in OpenAI's words."""

STREAMED = frozenset(
    {
        "POST /v1/chat/completions",
        "POST /v1/completions",
        "POST /v1/responses",
        "GET /v1/fine_tuning/jobs/{job_id}/events",
    }
)
"""Operations that answer with server-sent events when ``stream`` is true."""

FORMS: dict[str, Plain] = {
    "POST /v1/files": {
        "type": "object",
        "required": ["file", "purpose"],
        "additionalProperties": False,
        "properties": {
            "file": _BYTES,
            "purpose": {"type": "string", "enum": list(PURPOSES)},
            "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
            "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2592000},
        },
        "dependentRequired": {
            "expires_after[anchor]": ["expires_after[seconds]"],
            "expires_after[seconds]": ["expires_after[anchor]"],
        },
    },
    "POST /v1/uploads/{upload_id}/parts": {
        "type": "object",
        "required": ["data"],
        "additionalProperties": False,
        "properties": {"data": _BYTES},
    },
}
"""Bodies that are forms (``upload.py`` reads them)."""

_METADATA: Plain = {
    "name": "metadata",
    "in": "query",
    "required": False,
    "description": "Only objects whose metadata has all these values: `metadata[KEY]=VALUE`.",
    "style": "deepObject",
    "explode": True,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16},
}
PARAMETERS: dict[str, list[Plain]] = {"GET /v1/fine_tuning/jobs": [_METADATA], "GET /v1/chat/completions": [_METADATA]}
"""Query parameters that routes read by themselves."""


def _routes(app: FastAPI) -> Iterator[tuple[str, Any]]:
    """``METHOD path`` and the route of every operation."""
    for route in fastapi.routing.iter_route_contexts(app.routes):
        for method in sorted(route.methods or ()):
            yield f"{method} {route.path_format}", route


def _bodies(app: FastAPI) -> dict[str, JsonBody[Any]]:
    """The JSON body of every operation that has one."""
    return {
        operation: dependency.call
        for operation, route in _routes(app)
        for dependency in route.dependant.dependencies
        if isinstance(dependency.call, JsonBody)
    }


def operations(app: FastAPI) -> list[str]:
    """``METHOD path`` of every operation of the route table."""
    return [operation for operation, _ in _routes(app)]


def _request_body(operation: str, body: JsonBody[Any] | None, refs: dict[Any, Plain]) -> Plain | None:
    if operation in FORMS:
        return {"required": True, "content": {"multipart/form-data": {"schema": FORMS[operation]}}}
    if body is None:
        return None
    return {"required": not body.optional, "content": {"application/json": {"schema": refs[body.schema, "validation"]}}}


def _responses(operation: str, refs: dict[Any, Plain]) -> Plain:
    error = {"application/json": {"schema": refs[objects.ErrorReply, "serialization"]}}
    found: Plain = {
        "4XX": {"description": "The request is refused.", "content": error},
        "5XX": {"description": "The server cannot answer.", "content": error},
    }
    if operation == "GET /readyz":
        not_ready = {"application/json": {"schema": refs[objects.NotReady, "serialization"]}}
        found = {"503": {"description": "Something is missing.", "content": not_ready}, **found}
    if operation in NEVER_SUCCEEDS:
        return found
    content: Plain = copy.deepcopy(OTHER_ANSWERS.get(operation, {}))
    if operation in ANSWERS:
        content["application/json"] = {"schema": refs[ANSWERS[operation], "serialization"]}
    if operation in STREAMED:
        content["text/event-stream"] = {}
    return {"200": {"description": "Success.", "content": content}, **found}


def openapi_document(app: FastAPI) -> Plain:
    """The document. An operation that is missing in the tables has a success of unknown content; a test names it."""
    document = get_openapi(title="Luthier", version=__version__, routes=app.routes)
    bodies = _bodies(app)
    shapes: list[type[BaseModel]] = [objects.ErrorReply, objects.NotReady, *ANSWERS.values(), *BESIDE]
    answers: list[tuple[type[BaseModel], JsonSchemaMode]] = [(shape, "serialization") for shape in shapes]
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [*answers, *((body.schema, "validation") for body in bodies.values())]
    refs, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF)
    for name in _TOLD_WHOLE:
        if name in definitions["$defs"]:
            definitions["$defs"][name]["required"] = list(definitions["$defs"][name]["properties"])
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            key = f"{method.upper()} {path}"
            operation["responses"] = _responses(key, refs)
            request_body = _request_body(key, bodies.get(key), refs)
            if request_body is not None:
                operation["requestBody"] = request_body
            if key in PARAMETERS:
                operation.setdefault("parameters", []).extend(copy.deepcopy(PARAMETERS[key]))
            if path.startswith("/v1/"):
                operation["security"] = [{"key": []}]
    document["components"] = {
        "schemas": definitions["$defs"],
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    }
    return document
