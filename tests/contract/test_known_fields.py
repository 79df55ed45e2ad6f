"""Every field that the official client can send is known here: it works, is accepted without effect, or is refused by name."""

from typing import Any

import pytest
from openai.types import completion_create_params, upload_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.fine_tuning import job_create_params
from openai.types.responses import input_token_count_params, response_create_params
from pydantic import BaseModel

from luthier.api.schemas.chat import ChatRequest
from luthier.api.schemas.completions import CompletionRequest
from luthier.api.schemas.fine_tuning import JobCreateRequest
from luthier.api.schemas.responses import InputTokensRequest, ResponseRequest
from luthier.api.schemas.uploads import UploadCreateRequest
from tests.support.api_server import TUNED, ApiServer

BODIES: list[tuple[type[BaseModel], Any]] = [
    (ChatRequest, chat_create_params.CompletionCreateParamsStreaming),
    (CompletionRequest, completion_create_params.CompletionCreateParamsStreaming),
    (ResponseRequest, response_create_params.ResponseCreateParamsStreaming),
    (InputTokensRequest, input_token_count_params.InputTokenCountParams),
    (JobCreateRequest, job_create_params.JobCreateParams),
    (UploadCreateRequest, upload_create_params.UploadCreateParams),
]


@pytest.mark.parametrize(("ours", "theirs"), BODIES, ids=lambda kind: kind.__name__)
def test_no_field_of_the_client_is_unknown(ours: type[BaseModel], theirs: Any) -> None:
    sent = set(theirs.__annotations__)
    assert len(sent) > 3
    assert sent - set(ours.model_fields) == set()


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "fine_tuning/jobs", "uploads"])
def test_a_field_that_nobody_knows_is_refused_by_name(server: ApiServer, path: str) -> None:
    bodies = {
        "chat/completions": {"model": TUNED, "messages": [{"role": "user", "content": "x"}]},
        "completions": {"model": TUNED, "prompt": "x"},
        "responses": {"model": TUNED, "input": "x"},
        "fine_tuning/jobs": {"model": TUNED, "training_file": "file-1"},
        "uploads": {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 1, "mime_type": "text/jsonl"},
    }
    with server.http() as http:
        answer = http.post(f"/v1/{path}", json={**bodies[path], "colour": "blue"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unknown_parameter", "colour")
