"""Write docs/reference/conformance.md: every path and field of OpenAI's document that is served here, and how it stands.

What it does: reads the committed document, the table of exceptions and the record of a run (tests/contract/openapi), and renders
them. What it does not: claim anything; a field is "supported" because the record has seen it, and "differs" or "not yet" because
the table says why and the record bears it out. Called by ``make conformance`` with the folder of a fresh run, which becomes the
record, and by tests/contract/test_conformance.py, which compares the page.
"""

import datetime
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.support.conformance import ABSENT, DIFFERS, IGNORED, REFUSED, UNSERVED, ExceptionRule, Observed, Record, Surface, load_rules
from tests.support.openapi_document import OpenApi

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "conformance.md"
CLIENTS_HEAD = """
## Clients

Each ran unchanged, with another base address. The client for Node is the newest that does not ask for Node 22.

"""
CLIENTS = 5
"""The newest Python client sync and async, two older ones, Node."""
WORDS = {
    REFUSED: "answered 400",
    IGNORED: "accepted, without effect",
    ABSENT: "not in answers",
    DIFFERS: "",
    UNSERVED: "not served",
}
SUPPORTED, DIFFERENT, NOT_YET, UNKNOWN = "supported", "differs", "not yet", "unknown"
Row = tuple[str, str, str]
"""Name, status, why."""


def status(rule: ExceptionRule | None, is_seen: bool) -> tuple[str, str]:
    """How a name stands, and the reason that the page gives."""
    if rule is None:
        return (SUPPORTED, "") if is_seen else (UNKNOWN, "neither seen in the record nor in the table of exceptions")
    words = ": ".join(part for part in (WORDS[rule.how], rule.why) if part)
    return (f"{NOT_YET} ({rule.not_yet})", words) if rule.not_yet else (DIFFERENT, words)


def rows(surface: Surface, part: str, names: Iterable[str], seen: set[str]) -> list[Row]:
    """One row for each name."""
    return [(name, *status(surface.rule(part, name), name in seen)) for name in names]


def all_rows(surface: Surface, observed: Observed) -> dict[str, list[Row]]:
    """Every row of the page, by part."""
    return {
        "operation": rows(surface, "operation", surface.operations(), observed.operations),
        "query": rows(surface, "query", surface.query(), observed.query),
        "request": rows(surface, "request", surface.requests(), observed.accepted),
        "response": rows(surface, "response", surface.responses(), observed.answered),
    }


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    head = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*head, *("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)]) + "\n"


def owner(name: str) -> str:
    """The component, or the operation, that a field's name begins with."""
    return re.split(r"[.<\[]", name, maxsplit=1)[0]


def _by_owner(title: str, found: list[Row]) -> str:
    parts = [f"\n## {title}\n"]
    owners: dict[str, list[Row]] = {}
    for row in found:
        owners.setdefault(owner(row[0]), []).append(row)
    for name, own in sorted(owners.items()):
        short: Callable[[str], str] = lambda field, name=name: field.removeprefix(name).removeprefix(".")  # noqa: E731
        parts.append(f"\n### {name}\n\n" + _table(("field", "status", "why"), ((f"`{short(f)}`", s, why) for f, s, why in own)))
    return "".join(parts)


def _counts(found: dict[str, list[Row]]) -> str:
    names = {"operation": "paths and methods", "query": "query parameters", "request": "request fields", "response": "response fields"}

    def count(part: str, kind: str) -> str:
        return str(sum(1 for _, stands, _ in found[part] if stands.startswith(kind)))

    lines = ((names[part], *(count(part, kind) for kind in (SUPPORTED, DIFFERENT, NOT_YET))) for part in names)
    return _table(("", SUPPORTED, DIFFERENT, NOT_YET), lines)


def _clients(record: Record) -> str:
    lines = [(c["client"], c["version"], c["validation"], str(len(c["calls"]))) for c in record.clients]
    return _table(("client", "version", "validation of answers", "different methods called"), lines)


def _extras(observed: Observed) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(observed.extra) if "<" not in name)
    return (
        "\n## Beyond the document\n\nAnswers also hold fields that OpenAI's document does not name: those that real answers have "
        f"(reference fields such as `user_provided_suffix`), and ours in `luthier`. Clients keep or ignore them. Seen: {names}.\n"
    )


def page(record: Record, surface: Surface) -> str:
    """The whole page."""
    found = all_rows(surface, record.observed)
    head = f"""# Conformance

<!-- Made by `make conformance` from a run of the contract tests. -->

Run of {record.date}. Every path, parameter and field of OpenAI's API document (version {surface.document.version}; webhook endpoints: the
types of the official client) on the paths that this server knows, and how it stands:

- **supported**: a contract test sent the field and was answered 2xx, or got the field with a value in a 2xx answer;
- **differs**: the reason stands beside it. *Answered 400*: a contract test sent it and was refused by name, in OpenAI's error form.
  *Accepted, without effect*: a contract test sent it and was answered 2xx. *Not in answers*: no contract test ever saw it.
- **not yet**: waits for the work in brackets; a valid request is refused (400, or 404 for a whole path) and nothing is stored.

A name is `Component.field`; `Union<Member>` is one of several forms of an object, `[]` an item of a list. Fields inside of something that
is refused, ignored or not in answers are not listed one by one. Components that several paths share are listed once.

"""
    return (
        head
        + _counts(found)
        + CLIENTS_HEAD
        + _clients(record)
        + "\n## Paths\n\n"
        + _table(("method and path", "status", "why"), ((f"`{name}`", stands, why) for name, stands, why in found["operation"]))
        + "\n## Query parameters\n\n"
        + _table(("parameter", "status", "why"), ((f"`{name}`", stands, why) for name, stands, why in found["query"]))
        + _by_owner("Request fields", found["request"])
        + _by_owner("Response fields", found["response"])
        + _extras(record.observed)
    )


def main(arguments: list[str]) -> int:
    """Take over the record of a run, if its folder is given, and write the page; returns the exit code."""
    if arguments:
        record = Record.of_run(Path(arguments[0]), datetime.datetime.now(datetime.UTC).date().isoformat())
        if len(record.clients) < CLIENTS:
            ran = ", ".join(f"{c['client']} {c['version']}" for c in record.clients)
            print(f"luthier: the run is not complete, it has only these clients: {ran}. Nothing was written.", file=sys.stderr)
            return 1
        record.save()
    surface = Surface(OpenApi.load(), load_rules())
    PAGE.write_text(page(Record.load(), surface), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
