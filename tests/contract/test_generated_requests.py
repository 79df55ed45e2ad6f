"""Generated requests, drawn from OpenAI's document and from our own: no server error, no answer that breaks a schema.

A small share with a fixed seed runs with all tests; ``make nightly`` sends 5,000 requests per document. The server runs as
with ``LUTHIER_SPEC_STRICT=1``. Where an answer may differ from a document, ``tests/contract/openapi/differences.py`` says so.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.api.openapi import openapi_document
from tests.contract.openapi.differences import FROM_OPENAI, FROM_OURS
from tests.contract.openapi.openai_document import openai_document
from tests.support.populated_api import PopulatedServer
from tests.support.schema_runs import Report, Run

NIGHTLY_CASES = 5000


@pytest.fixture
def populated(tmp_path: Path) -> Iterator[PopulatedServer]:
    server = PopulatedServer(tmp_path / "data", spec_strict=True)
    yield server
    server.stop()


def check(report: Report) -> None:
    """Fail with every finding; show what the run was made of."""
    told = {"cases": report.cases, "allowed": report.allowed, "undrawn": report.undrawn, "statuses": report.statuses}
    print(json.dumps(told, indent=2))
    # A draw here and there; more would mean that an operation is not tried.
    assert sum(report.undrawn.values()) <= report.cases / 50, report.undrawn
    assert report.findings == {}, "\n\n".join(f"{name}\n    {text}" for name, text in report.findings.items())


def run_openai(server: PopulatedServer, examples: int) -> Report:
    return Run(server, "/v1", FROM_OPENAI).every_operation(openai_document(), examples)


def run_ours(server: PopulatedServer, examples: int) -> Report:
    document: dict[str, Any] = openapi_document(server.app)
    return Run(server, "", FROM_OURS).every_operation(document, examples)


def test_openais_document(populated: PopulatedServer) -> None:
    check(run_openai(populated, 4))


def test_our_document(populated: PopulatedServer) -> None:
    check(run_ours(populated, 3))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_openais_document_at_length(populated: PopulatedServer) -> None:
    report = run_openai(populated, 140)
    check(report)
    assert report.cases >= NIGHTLY_CASES


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_our_document_at_length(populated: PopulatedServer) -> None:
    report = run_ours(populated, 95)
    check(report)
    assert report.cases >= NIGHTLY_CASES
