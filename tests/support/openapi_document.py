"""OpenAI's document of its API, read for the paths that are served here: which fields there are, and which ones a value has.

What it does: names every field by the component that it stands in (``FineTuningJob.method``, ``Tool<FunctionTool>``,
``CreateChatCompletionResponse.choices[].message.content``), lists those names for an operation, and finds them in a real
body. What it does not: validate. Called by ``conformance.py`` and scripts/make_conformance.py.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "contract" / "openapi"
DOCUMENTS = ("openai.json", "webhook_endpoints.json")
Schema = dict[str, Any]
Place = tuple[str | int, ...]
"""Where a value lies in a body: keys and indexes."""
_REMARKS = frozenset({"nullable", "default", "deprecated"})
Note = Callable[[str, Place], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema without references, unions and ``allOf`` at its top."""

    label: str
    """What its fields' names begin with."""
    schema: Schema
    variant: str | None
    """Its own name when it is one of several objects of a union."""
    component: str | None
    """The component that it is, for cutting recursions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    query: tuple[str, ...] = ()
    request: Schema | None = None
    responses: dict[str, Schema] = field(default_factory=dict)
    """By media type, of the 200 answer."""

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.method} {self.path}"


def _values(schema: Schema) -> list[Any] | None:
    """The values that a property may have, where the schema counts them up."""
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _type_fits(schema: Schema, value: object) -> bool:
    kinds = {dict: ("object",), list: ("array",), str: ("string",), bool: ("boolean",), int: ("integer", "number"), float: ("number",)}
    given = schema.get("type") or ("object" if "properties" in schema else "array" if "items" in schema else None)
    wanted = given if isinstance(given, list) else [given]
    return given is None or any(kind in wanted for kind in kinds.get(type(value), ()))


def _merged(parts: list[Shape], schema: Schema) -> Schema:
    """The one object that the parts of ``allOf`` describe."""
    properties: Schema = {}
    for part in parts:
        properties.update(part.schema.get("properties", {}))
    required = [name for part in parts for name in part.schema.get("required", [])]
    return {"type": "object", "properties": {**properties, **schema.get("properties", {})}, "required": required}


@dataclass(frozen=True)
class OpenApi:
    """The parsed document."""

    document: Schema

    @classmethod
    def load(cls, folder: Path = FOLDER) -> "OpenApi":
        """Every document of the folder, as one."""
        whole: Schema = {"info": {}, "paths": {}, "components": {"schemas": {}}}
        for name in DOCUMENTS:
            part = json.loads((folder / name).read_text(encoding="utf-8"))
            whole["info"] = whole["info"] or part["info"]
            whole["paths"].update(part["paths"])
            whole["components"]["schemas"].update(part["components"]["schemas"])
        return cls(whole)

    @property
    def version(self) -> str:
        """The version that the document gives itself."""
        return self.document["info"]["version"]

    @cached_property
    def operations(self) -> dict[str, Operation]:
        """By name."""
        found = (self._operation(path, method) for path, methods in self.document["paths"].items() for method in methods)
        return {operation.name: operation for operation in found}

    def _operation(self, path: str, method: str) -> Operation:
        described = self.document["paths"][path][method]
        content = described.get("requestBody", {}).get("content", {})
        answers = next((a for status, a in described.get("responses", {}).items() if status in ("200", "201")), {}).get("content", {})
        return Operation(
            method=method.upper(),
            path=path,
            query=tuple(p["name"] for p in described.get("parameters", []) if p["in"] == "query"),
            request=next(iter(content.values()), {}).get("schema"),
            responses={kind: answer["schema"] for kind, answer in answers.items()},
        )

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        # A path without placeholders wins over one with: /responses/input_tokens is no response.
        paths = sorted(self.document["paths"], key=lambda path: path.count("{"))
        return [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)) + "$"), path) for path in paths]

    def match(self, method: str, path: str) -> Operation | None:
        """The operation that a request's path, without ``/v1``, belongs to."""
        for pattern, template in self._patterns:
            if pattern.match(path) and f"{method} {template}" in self.operations:
                return self.operations[f"{method} {template}"]
        return None

    # -------------------------------------------------------------------------------------------------------- shapes

    def component(self, name: str) -> Schema:
        """A component; an empty schema for one that the document lacks."""
        return self.document["components"]["schemas"].get(name, {})

    def shapes(self, schema: Schema, label: str) -> list[Shape]:
        """What a schema can be; ``label`` names the place that it stands in."""
        found = list(self._expand(schema, label, label, None))
        if sum(1 for shape in found if shape.variant) < 2:
            return [replace(shape, variant=None) for shape in found]
        return [shape if shape.component or not shape.variant else replace(shape, label=shape.variant) for shape in found]

    def _expand(self, schema: Schema, label: str, union: str, component: str | None) -> Iterator[Shape]:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            target = self.component(name)
            yield from self._expand(target, name, name if "oneOf" in target or "anyOf" in target else union, name)
        elif "oneOf" in schema or "anyOf" in schema:
            for n, choice in enumerate(schema.get("oneOf") or schema["anyOf"]):
                yield from self._expand({**choice, "x-index": n}, label, union, None)
        elif "allOf" in schema:
            parts = [shape for part in schema["allOf"] if part.keys() - _REMARKS for shape in self._expand(part, label, union, component)]
            if sum(1 for part in schema["allOf"] if part.keys() - _REMARKS) == 1 and "properties" not in schema:
                yield from parts
            else:
                yield self._shape(_merged(parts, schema), label, union, component)
        else:
            yield self._shape(schema, label, union, component)

    def _shape(self, schema: Schema, label: str, union: str, component: str | None) -> Shape:
        variant = f"{union}<{component or self._own_name(schema)}>" if "properties" in schema else None
        return Shape(label, schema, variant, component)

    def _own_name(self, schema: Schema) -> str:
        for name in ("type", "role", "object"):
            values = _values(next(self._expand(schema["properties"].get(name, {}), "", "", None)).schema)
            if values and len(values) == 1:
                return str(values[0])
        return str(schema.get("x-index", 0))

    # -------------------------------------------------------------------------------------------------------- names

    def names(self, schema: Schema, label: str, *, skip: Callable[[str], bool] = lambda _: False) -> dict[str, bool]:
        """Every field of a schema, once, with True where it is required; nothing below a name that ``skip`` takes."""
        found: dict[str, bool] = {}
        self._collect(schema, label, found, set(), skip)
        return found

    def _collect(self, schema: Schema, label: str, found: dict[str, bool], seen: set[str], skip: Callable[[str], bool]) -> None:
        for shape in self.shapes(schema, label):
            if shape.variant is not None:
                found.setdefault(shape.variant, False)
                if skip(shape.variant):
                    continue
            if shape.component is not None:
                if shape.component in seen:
                    continue
                seen.add(shape.component)
            if "items" in shape.schema:
                self._collect(shape.schema["items"], f"{shape.label}[]", found, seen, skip)
            for name, inner in shape.schema.get("properties", {}).items():
                inner_label = f"{shape.label}.{name}"
                found.setdefault(inner_label, name in shape.schema.get("required", []))
                if not skip(inner_label):
                    self._collect(inner, inner_label, found, seen, skip)
            if isinstance(shape.schema.get("additionalProperties"), dict):
                self._collect(shape.schema["additionalProperties"], f"{shape.label}.*", found, seen, skip)

    def observe(self, value: object, schema: Schema, label: str, note: Note, unknown: Note, place: Place = ()) -> None:
        """Tell ``note`` every field that a body has, and ``unknown`` those that the schema does not name; null is no value."""
        for shape in self._fitting(value, self.shapes(schema, label)):
            if shape.variant is not None:
                note(shape.variant, place)
            if isinstance(value, list):
                for n, item in enumerate(value):
                    self.observe(item, shape.schema.get("items", {}), f"{shape.label}[]", note, unknown, (*place, n))
            if isinstance(value, dict):
                self._observe_object(value, shape, note, unknown, place)

    def _observe_object(self, value: Schema, shape: Shape, note: Note, unknown: Note, place: Place) -> None:
        properties, rest = shape.schema.get("properties", {}), shape.schema.get("additionalProperties")
        for name, inner in value.items():
            inner_place, inner_label = (*place, name), f"{shape.label}.{name}"
            if name in properties:
                if inner is not None:
                    note(inner_label, inner_place)
                    self.observe(inner, properties[name], inner_label, note, unknown, inner_place)
            elif isinstance(rest, dict):
                self.observe(inner, rest, f"{shape.label}.*", note, unknown, inner_place)
            elif properties and rest is not True:
                unknown(inner_label, inner_place)

    def _fitting(self, value: object, shapes: Iterable[Shape]) -> list[Shape]:
        """The shapes that a value has: all of those that fit equally well; none when its own ``type`` or ``role`` is nobody's."""
        fitting = [shape for shape in shapes if _type_fits(shape.schema, value)]
        if not isinstance(value, dict) or len(fitting) < 2:
            return fitting
        scores = [self._score(value, shape.schema) for shape in fitting]
        best = max(scores)
        return [shape for shape, score in zip(fitting, scores, strict=True) if score == best and score[0]]

    def _score(self, value: Schema, schema: Schema) -> tuple[bool, bool, int]:
        properties = schema.get("properties", {})
        tellers = {name: inner for name, inner in value.items() if isinstance(inner, str) and name in properties}
        counted = {name: _values(shape.schema) for name in tellers for shape in self._expand(properties[name], "", "", None)}
        told = all(values is None or tellers[name] in values for name, values in counted.items())
        complete = all(name in value for name in schema.get("required", []))
        return told, complete, sum(1 for name in value if name in properties)
