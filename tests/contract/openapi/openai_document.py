"""OpenAI's document, cut down by ``scripts/trim_openapi.py``, as answers are held to it.

Three things are done to it here, each in the open: words of OpenAPI 3.0 that mean nothing in its own version 3.1 are
translated; what it leaves unsaid is filled in (the error envelope, the bearer key, streams); and where it disagrees with what
OpenAI really answers, or with a decision of ours, ``CORRECTIONS`` names the field and the reason. Everything else holds as written.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Plain = dict[str, Any]

FILE = Path(__file__).resolve().parent / "openai.json"
NULL: Plain = {"type": "null"}
_REPLY: Plain = {"type": "object", "required": ["error"], "properties": {"error": {"$ref": "#/components/schemas/Error"}}}


@dataclass(frozen=True, slots=True)
class Correction:
    """One place of the document that does not hold as written."""

    where: str
    """Keys from the document's root, with dots; ``components.schemas`` is left out for schemas."""
    reason: str
    change: Callable[[Any], Any]


def _or_null(schema: Any) -> Any:
    return {"anyOf": [schema, NULL]}


def _also(*values: str) -> Callable[[Any], Any]:
    return lambda schema: {**schema, "enum": [*schema["enum"], *values]}


def _content(*media_types: str) -> Callable[[Any], Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return lambda _: dict.fromkeys(media_types, binary)


_REAL_NULL = "OpenAI's real answers carry null here (reference, section 1.1)"
_NO_ITEMS = "an empty page has no first and no last item (reference, section 0.3)"

CORRECTIONS = (
    Correction("OpenAIFile.properties.expires_at", _REAL_NULL, _or_null),
    Correction("OpenAIFile.properties.status_details", _REAL_NULL, _or_null),
    Correction("OpenAIFile.properties.purpose", "`evals` is taken at creation and shown (reference, section 1.1)", _also("evals")),
    *(
        Correction(f"{name}.properties.{field}", _NO_ITEMS, _or_null)
        for name in ("ListFilesResponse", "ChatCompletionList", "ChatCompletionMessageList", "ResponseItemList")
        for field in ("first_id", "last_id")
    ),
    Correction(
        "ChatCompletionMessageList.properties.data.items.allOf.0",
        "the list is of the messages that were asked, and the document's own example shows a user's",
        lambda _: {"type": "object", "required": ["role", "content"], "properties": {"role": {"type": "string"}}},
    ),
    Correction("ModelResponseProperties.properties.user", "null in the document's own example of a response", _or_null),
    Correction(
        "paths./responses/input_tokens.post.requestBody.content",
        "the same fields as a web form: no client sends one, and bodies here are JSON",
        lambda content: {"application/json": content["application/json"]},
    ),
    Correction("FineTuningJob.properties.status", "the document's own example of a pause (decision D3)", _also("paused")),
    Correction(
        "CreateCompletionResponse.properties.choices.items.properties.logprobs.anyOf.0.properties.token_logprobs.items",
        "an echoed prompt's first token has no probability (reference, section 4.4)",
        _or_null,
    ),
    Correction(
        "CreateCompletionResponse.properties.choices.items.properties.logprobs.anyOf.0.properties.top_logprobs.items",
        "an echoed prompt's first token has no probability (reference, section 4.4)",
        _or_null,
    ),
    Correction(
        "paths./files/{file_id}/content.get.responses.200.content",
        "files come back as bytes, not as a JSON text (reference, section 1.2); results as CSV on request (decision D2)",
        _content("application/octet-stream", "text/csv"),
    ),
)


def _translated(node: Any) -> Any:
    """``nullable`` and a boolean ``exclusiveMinimum`` as 3.1 says them."""
    if isinstance(node, list):
        return [_translated(item) for item in node]
    if not isinstance(node, dict):
        return node
    # Discriminators without a mapping promise names of schemas, where the values are types; ``oneOf`` decides as well without them.
    named = {key: value for key, value in node.items() if key != "discriminator" or "mapping" in value}
    found = {key: _translated(value) for key, value in named.items()}
    for word, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(word), bool):
            found.update({word: found.pop(bound)} if found.pop(word) else {})
    if isinstance(found.get("allOf"), list) and _or_null({}) in found["allOf"]:
        found["allOf"].remove(_or_null({}))
        return _or_null(found)
    if isinstance(found.get("nullable"), bool):
        return _or_null(found) if found.pop("nullable") else found
    return found


def _correct(document: Plain, correction: Correction) -> None:
    node: Any = document if correction.where.startswith("paths.") else document["components"]["schemas"]
    *keys, last = (int(key) if key.isdigit() and key != "200" else key for key in correction.where.split("."))
    for key in keys:
        node = node[key]
    node[last] = correction.change(node[last])


def _stream_of_completions(schemas: Plain) -> Plain:
    """Events of a completion have the shape of the whole, without a reason to finish until the last."""
    whole = json.loads(json.dumps(schemas["CreateCompletionResponse"]))
    choice = whole["properties"]["choices"]["items"]["properties"]
    choice["finish_reason"] = _or_null(choice["finish_reason"])
    whole["properties"]["usage"] = _or_null(whole["properties"]["usage"])
    return whole


def openai_document() -> Plain:
    """The document that requests are drawn from and answers are held to."""
    document: Plain = _translated(json.loads(FILE.read_text(encoding="utf-8")))
    schemas = document["components"]["schemas"]
    for correction in CORRECTIONS:
        _correct(document, correction)
    schemas["ErrorResponse"] = _REPLY
    schemas["CompletionEvent"] = _stream_of_completions(schemas)
    events = {"schema": {"$ref": "#/components/schemas/CompletionEvent"}}
    document["paths"]["/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"] = events
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    # Refusals stand nowhere, or as a bare error: the envelope is OpenAI's own (reference, section 0.2).
    refused = {"description": "Refused.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}}
    for operations in document["paths"].values():
        for operation in operations.values():
            kept = {status: answer for status, answer in operation["responses"].items() if not status.startswith("4")}
            operation["responses"] = {**kept, "4XX": refused, "5XX": refused}
    return document


def property_names(node: Any) -> set[str]:
    """Every name of a field that the document knows anywhere."""
    if isinstance(node, list):
        return set().union(*map(property_names, node)) if node else set()
    if not isinstance(node, dict):
        return set()
    own = set(node["properties"]) if isinstance(node.get("properties"), dict) else set()
    return own.union(*map(property_names, node.values())) if node else own
