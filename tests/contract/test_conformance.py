"""docs/reference/conformance.md is borne out: every name of OpenAI's document was seen, or stands in the table with a reason.

Runs after all other contract tests: the last test compares the committed record with what this very run has seen.
"""

import re
import tomllib
from pathlib import Path

import openai
import pytest

from scripts import make_client_env, make_conformance
from tests.support.conformance import (
    ABSENT,
    DIFFERS,
    EXCEPTIONS,
    HOWS,
    IGNORED,
    NOT_YET,
    REFUSED,
    UNSERVED,
    Record,
    Recorder,
    Surface,
    load_rules,
)
from tests.support.openapi_document import OpenApi

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("operation", "query", "request", "response")
MAKE = "run `make conformance`"


@pytest.fixture(scope="module")
def record() -> Record:
    return Record.load()


@pytest.fixture(scope="module")
def surface() -> Surface:
    return Surface(OpenApi.load(), load_rules())


def test_every_name_is_seen_or_excepted(record: Record, surface: Surface) -> None:
    rows = make_conformance.all_rows(surface, record.observed)
    assert sum(len(found) for found in rows.values()) > 700
    unknown = {part: [name for name, status, _ in found if status == make_conformance.UNKNOWN] for part, found in rows.items()}
    assert unknown == {part: [] for part in PARTS}


def test_the_table_of_exceptions_is_in_order(surface: Surface) -> None:
    for table in tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))["exception"]:
        assert table["part"] in PARTS
        assert table["how"] in HOWS
        assert len(table["why"]) > 10, table
        assert table["fields"], table
        assert table.get("not_yet", NOT_YET[0]) in NOT_YET, "only these may wait"
        assert (table["part"] == "operation") == (table["how"] == UNSERVED) or table["how"] == REFUSED


def test_every_exception_is_needed(surface: Surface) -> None:
    names = {
        "operation": surface.operations(),
        "query": surface.query(),
        "request": list(surface.requests()),
        "response": list(surface.responses()),
    }
    stale = [pattern for rule in surface.rules for pattern in rule.fields if not any(rule.only(pattern).takes(n) for n in names[rule.part])]
    assert stale == []


def test_the_record_bears_the_exceptions_out(record: Record, surface: Surface) -> None:
    seen = record.observed
    wrong = [name for name in surface.operations() if surface.rule("operation", name) and name in seen.operations]
    for part, names in (("query", surface.query()), ("request", surface.requests()), ("response", surface.responses())):
        for name in names:
            rule = surface.rule(part, name)
            if rule is None:
                continue
            accepted = name in {"query": seen.query, "request": seen.accepted, "response": seen.answered}[part]
            borne_out = {
                REFUSED: name in seen.refused and not accepted,
                IGNORED: accepted,
                DIFFERS: accepted,
                ABSENT: not accepted,
            }[rule.how]
            if not borne_out:
                wrong.append(f"{part} {name}: {rule.how}")
    assert wrong == []


def test_the_page_says_what_the_record_says(record: Record, surface: Surface) -> None:
    text = make_conformance.PAGE.read_text(encoding="utf-8")
    assert text == make_conformance.page(record, surface), MAKE
    assert re.search(r"^Run of 20\d\d-\d\d-\d\d\.", text, re.MULTILINE)


def test_the_record_is_of_the_clients_that_are_pinned(record: Record) -> None:
    versions = {(c["client"].partition(" (")[0], c["version"]) for c in record.clients}
    python = {("openai for Python", openai.__version__)}
    for name in ("openai-1", "openai-2"):
        pins = (make_client_env.pins_folder(name) / "requirements.txt").read_text(encoding="utf-8")
        python.add(("openai for Python", re.findall(r"^openai==(\S+)$", pins, re.MULTILINE)[0]))
    assert python <= versions, MAKE
    assert len(record.clients) == make_conformance.CLIENTS


def test_the_document_is_small_and_without_prose() -> None:
    text = (EXCEPTIONS.parent / "openai.json").read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert '"description":"' not in text


def test_this_run_saw_what_the_record_says(record: Record, recorder: Recorder, request: pytest.FixtureRequest) -> None:
    ran = {item.path.name for item in request.session.items}
    modules = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    config = request.config
    chosen = config.option.keyword or config.option.markexpr or any("::" in argument for argument in config.args)
    if chosen or not modules <= ran or request.session.testsfailed or hasattr(config, "workerinput"):
        pytest.skip("only a run of all contract tests has seen everything")
    assert recorder.observed.missing(record.observed) == [], MAKE
