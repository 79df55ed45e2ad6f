"""Generated requests against a running API, and what is wrong with the answers. Called by the schema tests.

What it does: draws requests from an OpenAPI document, valid and invalid ones, names things that exist in some of them,
sends them over HTTP and runs every check of schemathesis on the answers. ``Difference`` is the only way past a check: it has a
name and a reason, and lets through exactly what it describes. What it does not: know the documents.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import jsonschema_rs
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from schemathesis.core.errors import UnsupportedSchema
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.generation import GenerationMode

from tests.support.api_server import KEY
from tests.support.populated_api import PopulatedServer

AUTH = {"Authorization": f"Bearer {KEY}"}
SECONDS = 30


@dataclass(frozen=True, slots=True)
class BrokenEvent:
    """An event of a stream that does not fit the document."""

    message: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, its answer, and one thing that a check said of it."""

    operation: str
    case: Any
    response: Any
    failure: Failure | BrokenEvent

    @property
    def check(self) -> str:
        """The failure's class: schemathesis' own name for what went wrong."""
        return type(self.failure).__name__

    @property
    def error(self) -> dict[str, Any]:
        """The answer's ``error`` object, or an empty one."""
        try:
            body = self.response.json()
        except ValueError:
            return {}
        error = body.get("error") if isinstance(body, dict) else None
        return error if isinstance(error, dict) else {}


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that an answer may do although the document says otherwise."""

    name: str
    reason: str
    applies: Callable[[Answer], bool]


@dataclass(slots=True)
class Report:
    """What came of a run."""

    cases: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """Answers by operation and status."""
    allowed: Counter[str] = field(default_factory=Counter)
    """Uses of each difference."""
    undrawn: Counter[str] = field(default_factory=Counter)
    """Draws by operation that schemathesis gave up."""
    findings: dict[str, str] = field(default_factory=dict)
    """The first request of each kind of finding."""

    def note(self, answer: Answer) -> None:
        """Keep a finding, once per operation and kind."""
        key = f"{answer.operation}: {answer.check} {answer.response.status_code} {answer.error.get('code')} {answer.error.get('param')}"
        if key not in self.findings:
            message = " ".join(answer.failure.message.split())[:600]
            curl = answer.case.as_curl_command(headers=dict(answer.response.request.headers))
            self.findings[key] = f"{message}\n    {answer.response.content[:400]!r}\n    {curl[:1500]}"


def load(document: dict[str, Any]) -> Any:
    """A schema that requests are drawn from."""
    return schemathesis.openapi.from_dict(json.loads(json.dumps(document)))


def event_validators(document: dict[str, Any]) -> dict[str, Any]:
    """By operation, what checks one event of its stream."""
    found: dict[str, Any] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation["responses"].get("200", {}).get("content", {})
            schema = content.get("text/event-stream", {}).get("schema", {})
            if "$ref" in schema:
                found[f"{method.upper()} {path}"] = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
    return found


def _without_events(document: dict[str, Any]) -> dict[str, Any]:
    """Streams are checked by the event here, and not by schemathesis, which holds the frame to the event's schema."""
    copied: dict[str, Any] = json.loads(json.dumps(document))
    for methods in copied["paths"].values():
        for operation in methods.values():
            content = operation["responses"].get("200", {}).get("content", {})
            if "text/event-stream" in content:
                content["text/event-stream"] = {}
    return copied


class Run:
    """Requests for every operation of a document.

    Args:
        server: what they are sent to.
        prefix: what stands before the document's paths.
        differences: what is let through.
    """

    def __init__(self, server: PopulatedServer, prefix: str, differences: Sequence[Difference]) -> None:
        self.report = Report()
        self._server = server
        self._base = server.url + prefix
        self._differences = differences
        self._random = random.Random(11)
        self._session = requests.Session()
        self._events: dict[str, Any] = {}

    def every_operation(self, document: dict[str, Any], examples: int) -> Report:
        """Up to ``examples`` requests for each operation: fewer where there are fewer different ones."""
        self._events = event_validators(document)
        for result in load(_without_events(document)).get_all_operations():
            self._operation(result.ok(), examples)
        return self.report

    def _operation(self, operation: Any, examples: int) -> None:
        name = f"{operation.method.upper()} {operation.path}"
        modes = [
            self._drawable(name, operation.as_strategy(generation_mode=mode)) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ]

        @hypothesis.seed(20261125)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            verbosity=Verbosity.quiet,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
                HealthCheck.large_base_example,
            ],
        )
        @hypothesis.given(case=st.one_of(*modes))
        def one(case: Any) -> None:
            self._send(name, case)

        one()

    def _drawable(self, name: str, cases: Any) -> Any:
        """The cases without those whose schema schemathesis finds that it cannot negate, deep in the body; the report counts them."""

        @st.composite
        def drawn(draw: Callable[[Any], Any]) -> Any:
            try:
                return draw(cases)
            except UnsupportedSchema:
                self.report.undrawn[name] += 1
                hypothesis.reject()

        return drawn()

    def _send(self, name: str, case: Any) -> None:
        self._name_what_exists(case)
        response = case.call(base_url=self._base, session=self._session, headers=AUTH, timeout=SECONDS)
        self.report.cases += 1
        self.report.statuses[f"{name} {response.status_code}"] += 1
        try:
            case.validate_response(
                response, headers=AUTH, transport_kwargs={"base_url": self._base, "session": self._session, "timeout": SECONDS}
            )
        except FailureGroup as group:
            for failure in group.exceptions:
                self._judge(Answer(name, case, response, failure))

        self._check_events(name, case, response)

    def _check_events(self, name: str, case: Any, response: Any) -> None:
        """Every event of a stream, where the document says what an event is."""
        if not response.headers.get("content-type", [""])[0].startswith("text/event-stream") or name not in self._events:
            return
        lines = [line.removeprefix("data: ") for line in response.content.decode().splitlines() if line.startswith("data: ")]
        for line in lines:
            if line == "[DONE]":
                continue
            for error in self._events[name].iter_errors(json.loads(line)):
                self._judge(Answer(name, case, response, BrokenEvent(f"{error.message} at {list(error.instance_path)} in {line[:300]}")))

    def _judge(self, answer: Answer) -> None:
        allowed = next((d for d in self._differences if d.applies(answer)), None)
        if allowed is None:
            self.report.note(answer)
        else:
            self.report.allowed[allowed.name] += 1

    def _name_what_exists(self, case: Any) -> None:
        """In most requests the path names something that is there, in half of them the body does; what is wrong on purpose stays."""
        stock = self._server.stock
        wrong = {location.container_name for location, part in case.meta.components.items() if not part.mode.is_positive}
        if case.path_parameters and "path_parameters" not in wrong and self._random.random() < 0.8:
            case.path_parameters = {name: stock.path_id(case.method.upper(), case.path, name) for name in case.path_parameters}
        if case.query and "after" in case.query and "query" not in wrong and self._random.random() < 0.7:
            case.query = {name: value for name, value in case.query.items() if name != "after"}
        if isinstance(case.body, dict) and "body" not in wrong and self._random.random() < 0.5:
            body = dict(case.body)
            stock.fill(case.path, body)
            case.body = body
