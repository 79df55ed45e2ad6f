"""The dashboard's TypeScript types of trace events and of our API, made from the code and from ``docs/reference/openapi.json``.

What it does: one file each in ``web/src/api``; prints which changed. What it does not: check values at run time. Called by ``make docs``;
``tests/architecture/test_web.py`` fails while the files lag.
"""

import dataclasses
import inspect
import json
import re
import types
import typing
from pathlib import Path
from typing import Any

from luthier.core.stage import Stage
from luthier.trace import events

ROOT = Path(__file__).resolve().parents[1]
TRACE_FILE = ROOT / "web" / "src" / "api" / "trace.ts"
API_FILE = ROOT / "web" / "src" / "api" / "schema.ts"
OPENAPI = ROOT / "docs" / "reference" / "openapi.json"
_PLAIN = {int: "number", float: "number", str: "string", bool: "boolean", type(None): "null", Any: "unknown"}
_OPEN = "unknown"
_HEAD = "// Made by scripts/make_web_types.py; make docs renews it."
_NAME = re.compile(r"^[A-Za-z_$][A-Za-z0-9_$]*$")


def typescript_of(hint: Any) -> str:
    """The TypeScript type of a Python annotation that a payload uses; refuses what it does not know."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(typescript_of(a) for a in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"{_element(typescript_of(args[0]))}[]"
    if origin is tuple:
        return "[" + ", ".join(typescript_of(a) for a in args) + "]"
    if origin is dict:
        return f"Record<string, {typescript_of(args[1])}>"
    raise TypeError(f"no TypeScript type for {hint!r}")


def _element(text: str) -> str:
    return f"({text})" if " | " in text else text


def _comments(cls: type) -> dict[str, str]:
    """Field -> the docstring below it in the source, one line."""
    found: dict[str, str] = {}
    for name, text in re.findall(r'^    (\w+): [^\n]+\n    """(.*?)"""', inspect.getsource(cls), flags=re.S | re.M):
        found[name] = " ".join(text.split())
    return found


def _interface(cls: type) -> str:
    hints, comments = typing.get_type_hints(cls), _comments(cls)
    lines = [f"/** {' '.join((cls.__doc__ or '').split())} */", f"export interface {cls.__name__} {{"]
    for field in dataclasses.fields(cls):
        if field.name in comments:
            lines.append(f"  /** {comments[field.name]} */")
        lines.append(f"  {field.name}: {typescript_of(hints[field.name])};")
    return "\n".join([*lines, "}"])


def trace_types() -> str:
    """The text of ``web/src/api/trace.ts``."""
    names = list(events.PAYLOADS)
    stages = " | ".join(f"'{stage.value}'" for stage in Stage)
    parts = [
        _HEAD,
        f"export const SCHEMA_VERSION = {events.SCHEMA_VERSION};",
        f"export type Stage = {stages};",
        "export const STAGES: readonly Stage[] = [" + ", ".join(f"'{stage.value}'" for stage in Stage) + "];",
        *(_interface(cls) for cls in events.PAYLOADS.values()),
        "/** Name of an event's type -> its payload. */\nexport interface Payloads {\n" + "".join(f"  {n}: {n};\n" for n in names) + "}",
        "interface Envelope {\n  schema: number;\n  /** Grows by one within a run, across attempts. */\n  id: number;\n  run: string;\n"
        "  attempt: number;\n  /** Unix seconds. */\n  time: number;\n  stage: Stage;\n}",
        "/** One line of the log. */\nexport type TraceEvent = "
        "{ [K in keyof Payloads]: Envelope & { type: K; data: Payloads[K] } }[keyof Payloads];",
    ]
    return "\n\n".join(parts) + "\n"


def schema_type(schema: dict[str, Any], indent: str = "") -> str:
    """The TypeScript type of a JSON schema, references kept by name."""
    if "$ref" in schema:
        return f"Schemas[{json.dumps(schema['$ref'].rsplit('/', 1)[-1])}]"
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(v) for v in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(schema_type(s, indent) for s in schema[key]))
    if "allOf" in schema:
        return " & ".join(_element(schema_type(s, indent)) for s in schema["allOf"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(dict.fromkeys(schema_type({**schema, "type": k}, indent) for k in kind))
    if kind == "array" and "prefixItems" in schema:
        return "[" + ", ".join(schema_type(s, indent) for s in schema["prefixItems"]) + "]"
    if kind == "array":
        return f"{_element(schema_type(schema.get('items', {}), indent))}[]"
    if kind == "object":
        return _object(schema, indent)
    return {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}.get(str(kind), _OPEN)


def _object(schema: dict[str, Any], indent: str) -> str:
    properties = schema.get("properties")
    if not properties:
        extra = schema.get("additionalProperties")
        return f"Record<string, {schema_type(extra, indent) if isinstance(extra, dict) and extra else _OPEN}>"
    required, inner = set(schema.get("required", ())), indent + "  "
    lines = ["{"]
    for name, value in properties.items():
        key = name if _NAME.match(name) else json.dumps(name)
        lines.append(f"{inner}{key}{'' if name in required else '?'}: {schema_type(value, inner)};")
    return "\n".join([*lines, indent + "}"])


def _answer(operation: dict[str, Any]) -> str:
    for status, reply in sorted(operation.get("responses", {}).items()):
        schema = reply.get("content", {}).get("application/json", {}).get("schema")
        if status.startswith("2") and schema is not None:
            return schema_type(schema, "    ")
    return "unknown"


def _body(operation: dict[str, Any]) -> str:
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return "undefined" if schema is None else schema_type(schema, "    ")


def api_types() -> str:
    """The text of ``web/src/api/schema.ts``: every schema by name; of each route the JSON that goes in and that comes back."""
    document = json.loads(OPENAPI.read_text(encoding="utf-8"))
    schemas = document.get("components", {}).get("schemas", {})
    lines = [_HEAD, "", "export interface Schemas {"]
    lines += [f"  {json.dumps(name)}: {schema_type(schema, '  ')};" for name, schema in schemas.items()]
    lines += ["}", "", "/** Route -> its JSON body and its JSON answer. */", "export interface Routes {"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method in ("get", "post", "delete", "put", "patch"):
                lines.append(f"  {json.dumps(f'{method.upper()} {path}')}: {{ body: {_body(operation)}; answer: {_answer(operation)} }};")
    return "\n".join([*lines, "}"]) + "\n"


def files() -> dict[Path, str]:
    """Path -> the text it should hold."""
    return {TRACE_FILE: trace_types(), API_FILE: api_types()}


def main() -> None:
    """Write what changed."""
    for path, text in files().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"renewed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
