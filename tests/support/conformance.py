"""What the contract tests were seen to send and to get, field by field of OpenAI's document, and what is excepted and why.

What it does: an ASGI layer that notes the fields of every request and answer, the committed record of one such run, and the
committed table of exceptions. What it does not: judge; tests/contract/test_conformance.py compares, scripts/make_conformance.py
writes the page. Called by those two and by the contract tests' server.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from tests.support.openapi_document import FOLDER, OpenApi, Operation, Place

RECORD = FOLDER / "record.json"
EXCEPTIONS = FOLDER / "exceptions.toml"
MAX_BODY = 4_000_000
MAX_FORM = 65_536
PREFIX = "/v1"
NOT_YET = ("reinforcement", "evals", "graders", "constrained decoding", "embeddings")
# How a field may differ, and what the record must show for it.
REFUSED, IGNORED, ABSENT, DIFFERS, UNSERVED = "refused", "ignored", "absent", "differs", "unserved"
HOWS = (REFUSED, IGNORED, ABSENT, DIFFERS, UNSERVED)

FORM_NAME = re.compile(rb'content-disposition:\s*form-data;[^\r\n]*?\bname="([^"]*)"', re.IGNORECASE)
PARAM_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(slots=True)
class Observed:
    """Fields by name; every set only grows."""

    operations: set[str] = field(default_factory=set)
    """Operations that answered 2xx."""
    query: set[str] = field(default_factory=set)
    """Parameters of requests that were answered 2xx: ``GET /files?limit``."""
    accepted: set[str] = field(default_factory=set)
    """Fields of requests that were answered 2xx."""
    refused: set[str] = field(default_factory=set)
    """Fields that an error named, of requests that were answered 4xx."""
    answered: set[str] = field(default_factory=set)
    """Fields of 2xx answers that were not null."""
    extra: set[str] = field(default_factory=set)
    """Fields of 2xx answers that OpenAI's document does not name."""

    def as_json(self) -> dict[str, list[str]]:
        """For the record."""
        return {name: sorted(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def of_json(cls, record: dict[str, Any]) -> "Observed":
        """From the record."""
        return cls(**{name: set(record[name]) for name in cls.__slots__})

    def missing(self, other: "Observed") -> list[str]:
        """What ``other`` has seen and this has not."""
        return sorted(f"{name}: {label}" for name in self.__slots__ for label in getattr(other, name) - getattr(self, name))


def _steps(param: str) -> Place:
    return tuple(int(index) if index else name for name, index in PARAM_STEP.findall(param))


def _form(body: bytes) -> dict[str, Any]:
    """The names of a multipart form as a tree; the values do not matter."""
    tree: dict[str, Any] = {}
    for name in FORM_NAME.findall(body[:MAX_FORM]):
        first, *rest = [step for step in re.split(r"[\[\]]+", name.decode("utf-8", "replace")) if step]
        inner = tree
        for step in rest:
            inner, first = inner.setdefault(first, {}), step
        inner[first] = ""
    return tree


def _events(body: bytes) -> list[Any]:
    lines = (line[6:] for line in body.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]")
    return [json.loads(line) for line in lines]


class Recorder:
    """Notes every exchange of a server under test."""

    def __init__(self, document: OpenApi) -> None:
        self.document = document
        self.observed = Observed()

    def wrap(self, app: Any) -> Any:
        """The application, overheard."""

        async def overheard(scope: Any, receive: Any, send: Any) -> None:
            operation = self.document.match(scope["method"], _path(scope)) if scope["type"] == "http" else None
            if operation is None:
                await app(scope, receive, send)
                return
            exchange = Exchange(operation, scope["query_string"].decode("ascii"))

            async def hear() -> Any:
                message = await receive()
                exchange.take(exchange.request, message)
                return message

            async def say(message: Any) -> None:
                if message["type"] == "http.response.start":
                    exchange.start(message)
                elif exchange.take(exchange.answer, message):
                    self._note(exchange)
                await send(message)

            await app(scope, hear, say)

        return overheard

    def _note(self, exchange: "Exchange") -> None:
        operation, seen = exchange.operation, self.observed
        given = exchange.given()
        if exchange.status >= 400:
            if exchange.status < 500:
                self._note_refused(operation, given, exchange.parsed_answer())
            return
        seen.operations.add(operation.name)
        seen.query.update(f"{operation.name}?{name}" for name in operation.query if name in exchange.query_names())
        if operation.request is not None and given is not None:
            self.document.observe(given, operation.request, operation.name, lambda n, _: seen.accepted.add(n), lambda *_: None)
        schema = operation.responses.get(exchange.media_type)
        answers = exchange.parsed_answer()
        if schema is not None and answers is not None:
            for answer in answers if exchange.is_stream else [answers]:
                note, unknown = (lambda n, _: seen.answered.add(n)), (lambda n, _: seen.extra.add(n))
                self.document.observe(answer, schema, operation.name, note, unknown)

    def _note_refused(self, operation: Operation, given: object, answer: Any) -> None:
        error = answer.get("error") if isinstance(answer, dict) else None
        param = error.get("param") if isinstance(error, dict) else None
        if not isinstance(param, str):
            return
        if param in operation.query:
            self.observed.refused.add(f"{operation.name}?{param}")
        if operation.request is None or given is None:
            return
        named = _steps(param)

        def note(name: str, place: Place) -> None:
            # All that stands in what is named is refused; where that is the type of a union's member, the member is.
            if place[: len(named)] == named or (place == named[:-1] and named[-1:] == ("type",)):
                self.observed.refused.add(name)

        self.document.observe(given, operation.request, operation.name, note, lambda *_: None)


def _path(scope: Any) -> str:
    return scope["path"].removeprefix(PREFIX)


@dataclass
class Exchange:
    """One request and its answer, as far as they fit into memory."""

    operation: Operation
    query: str
    request: bytearray = field(default_factory=bytearray)
    answer: bytearray = field(default_factory=bytearray)
    status: int = 0
    media_type: str = ""
    complete: bool = True

    @property
    def is_stream(self) -> bool:
        """True for server-sent events."""
        return self.media_type == "text/event-stream"

    def take(self, into: bytearray, message: Any) -> bool:
        """Keep a message's bytes; True when it was the last one."""
        limit = MAX_FORM if into is self.request and self._is_form else MAX_BODY
        room = limit - len(into)
        into += message.get("body", b"")[: max(room, 0)]
        return message["type"] == "http.response.body" and not message.get("more_body", False)

    def start(self, message: Any) -> None:
        """Keep the head of the answer."""
        headers = {name.lower(): value for name, value in message["headers"]}
        self.status = message["status"]
        self.media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]

    @property
    def _is_form(self) -> bool:
        return self.operation.path in ("/files", "/uploads/{upload_id}/parts")

    def query_names(self) -> set[str]:
        """Names of the parameters that have a value; ``metadata[k]`` is ``metadata``."""
        return {name.partition("[")[0] for name, value in parse_qsl(self.query, keep_blank_values=True) if value}

    def given(self) -> Any:
        """The request's body, parsed; None when it is none, or not what the operation takes."""
        if self._is_form:
            return _form(bytes(self.request))
        return _json(self.request)

    def parsed_answer(self) -> Any:
        """The answer's body, parsed: a list of events for a stream."""
        return _events(bytes(self.answer)) if self.is_stream else _json(self.answer)


def _json(body: bytearray) -> Any:
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError):
        return None


# ----------------------------------------------------------------------------------------------------------- exceptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionRule:
    """Fields that are not simply supported, with the reason; a ``*`` in a name stands for anything."""

    part: str
    """``request``, ``response``, ``query`` or ``operation``."""
    how: str
    why: str
    fields: tuple[str, ...]
    but: tuple[str, ...] = ()
    """Names that ``fields`` would take and that are not meant."""
    not_yet: str = ""
    """The subject of ``NOT_YET`` that it waits for."""

    def takes(self, label: str) -> bool:
        """True when the rule speaks of this field."""
        return label not in self.but and any(_glob(pattern).fullmatch(label) for pattern in self.fields)

    def only(self, pattern: str) -> "ExceptionRule":
        """The rule for one of its patterns."""
        return replace(self, fields=(pattern,))


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in pattern.split("*")))


def load_rules(path: Path = EXCEPTIONS) -> list[ExceptionRule]:
    """The committed table."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))["exception"]
    return [ExceptionRule(**{**table, "fields": tuple(table["fields"]), "but": tuple(table.get("but", ()))}) for table in tables]


@dataclass(frozen=True, slots=True)
class Surface:
    """Every name that the page speaks of, and the rule for each that has one."""

    document: OpenApi
    rules: list[ExceptionRule]

    def rule(self, part: str, label: str) -> ExceptionRule | None:
        """The first rule for a name."""
        return next((rule for rule in self.rules if rule.part == part and rule.takes(label)), None)

    def _stops(self, part: str, label: str) -> bool:
        rule = self.rule(part, label)
        return rule is not None and rule.how in (REFUSED, ABSENT, UNSERVED, IGNORED)

    def served(self) -> list[Operation]:
        """Operations that are not excepted as a whole."""
        return [o for o in self.document.operations.values() if not self._stops("operation", o.name)]

    def operations(self) -> list[str]:
        """Every operation: those of the document, and those that the table says are not served."""
        unserved = (name for rule in self.rules if rule.how == UNSERVED for name in rule.fields)
        return list(dict.fromkeys([*self.document.operations, *unserved]))

    def query(self) -> list[str]:
        """Every query parameter."""
        return [f"{o.name}?{name}" for o in self.served() for name in o.query]

    def requests(self) -> dict[str, bool]:
        """Every field of every request, with True where it is required; nothing below what is excepted as a whole."""
        return self._names("request", ((o.request, o.name) for o in self.served() if o.request is not None))

    def responses(self) -> dict[str, bool]:
        """Every field of every 200 answer."""
        return self._names("response", ((schema, o.name) for o in self.served() for schema in o.responses.values()))

    def _names(self, part: str, schemas: Iterable[tuple[Any, str]]) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for schema, label in schemas:
            for name, required in self.document.names(schema, label, skip=lambda n: self._stops(part, n)).items():
                found.setdefault(name, required)
        return found


# --------------------------------------------------------------------------------------------------------------- record

RUN_FOLDER = "CONFORMANCE_RUN"
"""The environment variable that names the folder in which a run leaves what it saw; without it nothing is left."""


def leave(name: str, what: dict[str, Any]) -> None:
    """Leave a piece of the record, when a record is being made."""
    if folder := os.environ.get(RUN_FOLDER):
        Path(folder, f"{name}.json").write_text(json.dumps(what), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Record:
    """One run of all contract tests and of the foreign clients, as it is committed."""

    date: str
    clients: list[dict[str, Any]]
    """Each with ``client``, ``version``, ``validation`` and ``calls``."""
    observed: Observed

    @classmethod
    def load(cls, path: Path = RECORD) -> "Record":
        """The committed one."""
        told = json.loads(path.read_text(encoding="utf-8"))
        return cls(told["date"], told["clients"], Observed.of_json(told["observed"]))

    @classmethod
    def of_run(cls, folder: Path, date: str) -> "Record":
        """What a run left in its folder."""
        pieces = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
        observed = Observed.of_json(pieces.pop("observed"))
        return cls(date, [piece for name, piece in pieces.items() if name.startswith("client-")], observed)

    def save(self, path: Path = RECORD) -> None:
        """Write it, a line for each name, so that changes can be read."""
        told = {"date": self.date, "clients": self.clients, "observed": self.observed.as_json()}
        path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
