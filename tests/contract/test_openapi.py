"""Our own OpenAPI document: nothing is missing in it, and it is what the server serves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from luthier.api.openapi import ANSWERS, FORMS, NEVER_SUCCEEDS, OTHER_ANSWERS, PARAMETERS, STREAMED, openapi_document, operations
from scripts.make_docs import ROOT
from scripts.trim_openapi import PATHS
from tests.contract.openapi.openai_document import FILE
from tests.contract.test_door import all_requests
from tests.support.api_server import ApiServer

CALLS_WITHOUT_BODY = ("/cancel", "/pause", "/resume", "/rollback", "/demo")


@pytest.fixture
def document(server: ApiServer) -> dict[str, Any]:
    return openapi_document(server.app)


def operations_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{method.upper()} {path}": op for path, methods in document["paths"].items() for method, op in methods.items()}


def test_every_route_is_in_it(server: ApiServer, document: dict[str, Any]) -> None:
    assert set(operations_of(document)) == set(operations(server.app))
    assert len(operations_of(document)) == len(all_requests(server))


def test_every_success_is_described(server: ApiServer, document: dict[str, Any]) -> None:
    silent = [name for name, op in operations_of(document).items() if name not in NEVER_SUCCEEDS and not op["responses"]["200"]["content"]]
    assert silent == [], "name its answer in ANSWERS of api/openapi.py"
    for table in (ANSWERS, FORMS, OTHER_ANSWERS, PARAMETERS, NEVER_SUCCEEDS, STREAMED):
        assert set(table) <= set(operations(server.app)), "the table names a route that is gone"


def test_every_post_with_a_body_describes_it(document: dict[str, Any]) -> None:
    silent = [
        name
        for name, op in operations_of(document).items()
        if name.startswith("POST ") and "requestBody" not in op and not name.endswith(CALLS_WITHOUT_BODY)
    ]
    assert silent == []


def test_bodies_say_what_is_refused(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    job = schemas["JobCreateRequest"]
    assert job["required"] == ["model", "training_file"]
    assert job["additionalProperties"] is False
    epochs = schemas["Hyperparameters"]["properties"]["n_epochs"]
    assert {"const": "auto"} in epochs["anyOf"]
    assert {"type": "string"} in schemas["CompletionRequest"]["properties"]["prompt"]["anyOf"]
    metadata = next(part for part in job["properties"]["metadata"]["anyOf"] if part.get("type") == "object")
    assert metadata["maxProperties"] == 16


def test_references_lead_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])
    assert "422" not in {status for op in operations_of(document).values() for status in op["responses"]}
    assert "HTTPValidationError" not in text


def test_only_the_health_checks_need_no_key(document: dict[str, Any]) -> None:
    assert {name for name, op in operations_of(document).items() if "security" not in op} == {"GET /healthz", "GET /readyz"}


def test_it_is_served_behind_the_key_and_committed(server: ApiServer) -> None:
    with server.http() as http:
        served = http.get("/v1/luthier/openapi.json").json()
        del http.headers["authorization"]
        assert http.get("/v1/luthier/openapi.json").status_code == 401
    assert served == json.loads(Path(ROOT / "docs" / "reference" / "openapi.json").read_text(encoding="utf-8"))


def test_the_trimmed_document_of_openai_is_whole_and_served(server: ApiServer) -> None:
    trimmed = json.loads(FILE.read_text(encoding="utf-8"))
    named = {part.split('"')[0] for part in json.dumps(trimmed).split('"#/components/')[1:]}
    kinds = trimmed["components"]
    here = {f"{kind}/{name}" for kind, parts in kinds.items() for name in parts}
    assert named - here == {"schemas/ErrorResponse"}, "the document itself lacks this one; openai_document.py adds it"
    ours = {re.sub(r"\{\w+\}", "{}", name) for name in operations(server.app)}
    theirs = {f"{method.upper()} /v1{re.sub(r'{[a-z_]+}', '{}', path)}" for path, methods in trimmed["paths"].items() for method in methods}
    assert tuple(trimmed["paths"]) == tuple(sorted(PATHS))
    assert theirs <= ours
