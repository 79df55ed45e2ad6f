"""Write what documentation repeats from the code: the README's tree and the pages in docs/reference/.

What it does: reads docstrings, the settings, the event payloads, the route table and the commands, and renders Markdown.
What it does not: write prose. Called by ``make docs`` (to write) and by tests/architecture/test_docs.py and
test_readme_tree.py (to compare): the pages cannot lag behind the code.
"""

import ast
import contextlib
import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fastapi import FastAPI

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "luthier"
BASE_MODEL = SOURCE / "models" / "builtin" / "luthier-mini"
WORK = ROOT / "pretraining" / "work"
TREE_BEGIN, TREE_END = "<!-- tree: made by `make docs` -->", "<!-- end of tree -->"
TEXT_COLUMN = 34
PAGE_NOTE = "<!-- Made by `make docs` from the code. -->\n"


def first_sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line, without its full stop."""
    paragraph = " ".join((text or "").strip().split("\n\n")[0].split())
    sentence = re.sub(r" \(reference, [^)]*\)", "", paragraph.split(". ")[0])
    return sentence.rstrip(".").replace("``", "`")


def type_text(kind: object) -> str:
    """A field's type as a reader would write it."""
    if isinstance(kind, type) and not isinstance(kind, GenericAlias):
        return kind.__name__
    return str(kind).replace("typing.", "")


def attribute_docs(path: Path) -> dict[str, dict[str, str]]:
    """Class name -> attribute name -> the string literal that follows the attribute in the source."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef):
            continue
        docs = found.setdefault(node.name, {})
        for before, after in zip(node.body, node.body[1:], strict=False):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
                value = after.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    docs[before.target.id] = " ".join(value.value.split()).replace("``", "`")
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# ----------------------------------------------------------------------------------------------------------------- tree


def _tree_lines(folder: Path, depth: int) -> Iterator[str]:
    entries = sorted((p for p in folder.iterdir() if p.name != "__pycache__" and p != WORK), key=lambda p: (p.is_file(), p.name))
    for entry in entries:
        label = "  " * depth + entry.name
        if entry.is_dir():
            init = entry / "__init__.py"
            text = _says_of_itself(init) if init.exists() else ""
            if not init.exists() and not any(entry.rglob("*.py")):
                text = f"{sum(1 for p in entry.rglob('*') if p.is_file())} files of package data"
                yield f"{label + '/':<{TEXT_COLUMN}}{text}".rstrip()
                continue
            yield f"{label + '/':<{TEXT_COLUMN}}{text}".rstrip()
            yield from _tree_lines(entry, depth + 1)
        elif entry.suffix == ".py" and entry.name != "__init__.py":
            yield f"{label:<{TEXT_COLUMN - 1}} {_says_of_itself(entry)}".rstrip()


def _says_of_itself(module: Path) -> str:
    return first_sentence(ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))))


def readme_tree() -> str:
    """The annotated tree as README shows it: one line per module, its docstring's first sentence."""
    pretraining = ROOT / "pretraining"
    head = f"{'pretraining/':<{TEXT_COLUMN}}{_says_of_itself(pretraining / '__init__.py')}"
    lines = ["src/luthier/", *_tree_lines(SOURCE, 1), head, *_tree_lines(pretraining, 1)]
    return "```\n" + "\n".join(lines) + "\n```\n"


def readme_with_tree(readme: str) -> str:
    """The README's text with the tree between its marks renewed."""
    before, rest = readme.split(TREE_BEGIN)
    _, after = rest.split(TREE_END)
    return f"{before}{TREE_BEGIN}\n{readme_tree()}{TREE_END}{after}"


# ------------------------------------------------------------------------------------------------------ reference pages


def settings_page() -> str:
    """Every field of ``core.settings.Settings``."""
    from luthier.core.settings import Settings

    docs = attribute_docs(SOURCE / "core" / "settings.py")["Settings"]
    defaults = Settings()
    rows = [
        (f"`LUTHIER_{f.name.upper()}`", type_text(f.type), f"`{getattr(defaults, f.name)}`", docs.get(f.name, ""))
        for f in dataclasses.fields(Settings)
    ]
    return (
        "# Settings\n\n" + PAGE_NOTE + "\nEach process reads its settings once, at its start, from environment variables; "
        "options of `luthier serve` win over them. A value that does not fit its type stops the start with a sentence.\n\n"
        "Settings may also stand in a file: `luthier.toml` in the directory in which the command is started, or the file that "
        "`LUTHIER_CONFIG` names. It uses the names below without `LUTHIER_` and in lower case (`port = 9000`), tables for the two that are "
        "tables (`[aliases]`). Environment variables win over the file; a name that is no setting is refused.\n\n"
        + _table(("variable", "type", "default", "meaning"), rows)
    )


def trace_events_page() -> str:
    """Every payload of ``trace/events.py``, with its fields."""
    from luthier.trace.events import PAYLOADS, SCHEMA_VERSION

    docs = attribute_docs(SOURCE / "trace" / "events.py")
    parts = [
        "# Trace events\n\n" + PAGE_NOTE + f"\nSchema version {SCHEMA_VERSION}. A run's log is `runs/JOB/trace.jsonl` in the data "
        "directory: one JSON object per line with `schema`, `id` (grows by one within a run), `run`, `attempt`, `time` (Unix seconds), "
        "`stage`, `type` (a name below) and `data` (its fields). `GET /v1/luthier/jobs/{id}/trace` returns the same objects.\n"
    ]
    for name, payload in PAYLOADS.items():
        rows = [(f"`{f.name}`", f"`{type_text(f.type)}`", docs[name].get(f.name, "")) for f in dataclasses.fields(payload)]
        parts.append(f"\n## {name}\n\n{first_sentence(payload.__doc__)}.\n\n" + _table(("field", "type", "meaning"), rows))
    return "".join(parts)


@contextlib.contextmanager
def _app() -> "Iterator[FastAPI]":
    from luthier.api.app import create_app
    from luthier.api.deps import build_services
    from luthier.core.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        settings.api_key_file.write_text("sk-none")
        services = build_services(settings)
        yield create_app(settings, services)
        services.database.close()


def route_table() -> list[tuple[str, str, str]]:
    """Method, path and first sentence of every route of the API, without the framework's own."""
    with _app() as app:
        rows = [
            (method.upper(), path, first_sentence(operation.get("description") or operation.get("summary")))
            for path, operations in app.openapi()["paths"].items()
            for method, operation in operations.items()
        ]
    return sorted(rows, key=lambda row: (row[1], row[0]))


def openapi_page() -> str:
    """The OpenAPI document, as ``GET /v1/luthier/openapi.json`` answers it."""
    from luthier.api.openapi import openapi_document

    with _app() as app:
        return json.dumps(openapi_document(app), indent=1, ensure_ascii=False) + "\n"


def endpoints_page() -> str:
    """Every route."""
    rows = [(f"`{method}`", f"`{path}`", text, _role_text(method, path)) for method, path, text in route_table()]
    return (
        "# Endpoints\n\n" + PAGE_NOTE + "\nShapes, ids, cursors and wording are OpenAI's. Every `/v1` route needs "
        "`Authorization: Bearer KEY` (the first key stands in `api_key` in the data directory) of a key with the role in the last column, "
        "or a higher one ([keys and limits](../guides/keys-and-limits.md)); a key in a query string is never accepted. "
        "What is not in this table answers 404 in the API's own error form. `/v1/luthier/...` is ours. With all parameters, bodies and "
        "answers the same table is an OpenAPI document: [openapi.json](openapi.json), served at `/v1/luthier/openapi.json`.\n\n"
        + _table(("method", "path", "what it does", "role"), rows)
    )


def _role_text(method: str, path: str) -> str:
    from luthier.api.access import needs_of
    from luthier.api.app import OPEN_PATHS

    if path in OPEN_PATHS:
        return "no key"
    needs = needs_of(path)
    return needs.read if method == "GET" else needs.write


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and every command below it, with full names, in the order in which help lists them."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from commands(found, f"{name} {below}")


def commands_page() -> str:
    """Every command with its arguments and options."""
    from luthier.cli.main import cli

    parts = ["# Commands\n\n" + PAGE_NOTE]
    for name, command in commands(cli, "luthier"):
        usage = " ".join([name, *command.collect_usage_pieces(click.Context(command, info_name=name))])
        parts.append(f"\n## {name}\n\n`{usage}`\n\n{first_sentence(command.help)}.\n")
        if command.epilog:
            parts.append(f"\nExample: `{command.epilog.removeprefix('Example: ')}`\n")
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            rows = [(" ".join(f"`{o}`" for o in p.opts), p.help or "") for p in options]
            parts.append("\n" + _table(("option", "meaning"), rows))
    return "".join(parts)


def base_model_page() -> str:
    """The embedded model's card without its header for model hubs; links into its folder lead there."""
    _, _, card = (BASE_MODEL / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    folder = f"../../{BASE_MODEL.relative_to(ROOT).as_posix()}"
    return PAGE_NOTE + card.lstrip("\n").replace("](ATTRIBUTION", f"]({folder}/ATTRIBUTION")


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings_page,
    "docs/reference/trace-events.md": trace_events_page,
    "docs/reference/endpoints.md": endpoints_page,
    "docs/reference/openapi.json": openapi_page,
    "docs/reference/commands.md": commands_page,
    "docs/reference/luthier-mini.md": base_model_page,
}


def main() -> None:
    """Write every page, and the tree into README."""
    for name, render in PAGES.items():
        (ROOT / name).write_text(render(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(readme_with_tree(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
