"""Cut OpenAI's OpenAPI document down to what this server is tested against.

What it does: keeps the paths that Luthier serves and the components that they reach, drops every text and example, and
writes one component or path per line. What it does not: change a type, a bound or a required field. Run by hand when the
document or the list of paths changes: ``python scripts/trim_openapi.py FULL.json``; ``tests/contract`` reads the result.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TRIMMED = ROOT / "tests" / "contract" / "openapi" / "openai.json"

PATHS = (
    "/batches",
    "/batches/{batch_id}",
    "/batches/{batch_id}/cancel",
    "/chat/completions",
    "/chat/completions/{completion_id}",
    "/chat/completions/{completion_id}/messages",
    "/completions",
    "/files",
    "/files/{file_id}",
    "/files/{file_id}/content",
    "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions",
    "/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions/{permission_id}",
    "/fine_tuning/jobs",
    "/fine_tuning/jobs/{fine_tuning_job_id}",
    "/fine_tuning/jobs/{fine_tuning_job_id}/cancel",
    "/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints",
    "/fine_tuning/jobs/{fine_tuning_job_id}/events",
    "/fine_tuning/jobs/{fine_tuning_job_id}/pause",
    "/fine_tuning/jobs/{fine_tuning_job_id}/resume",
    "/models",
    "/models/{model}",
    "/responses",
    "/responses/{response_id}",
    "/responses/{response_id}/cancel",
    "/responses/{response_id}/input_items",
    "/responses/input_tokens",
    "/uploads",
    "/uploads/{upload_id}/cancel",
    "/uploads/{upload_id}/complete",
    "/uploads/{upload_id}/parts",
)
DROPPED = frozenset({"description", "summary", "tags", "title", "example", "examples", "externalDocs"})
# Maps whose keys are names of somebody's fields, not words of OpenAPI.
NAME_MAPS = frozenset({"properties", "responses", "schemas", "headers", "content", "mapping", "securitySchemes"})

Plain = dict[str, Any]


def without_texts(node: Any, *, names: bool = False) -> Any:
    """A part of the document without texts for people; ``names``: its keys are names and all stay."""
    if isinstance(node, list):
        return [without_texts(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if names or not (key in DROPPED or key.startswith("x-"))}
    return {key: without_texts(value, names=key in NAME_MAPS and not names) for key, value in kept.items()}


def references(node: Any) -> Iterator[str]:
    """Every ``$ref`` below."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for item in node:
            yield from references(item)


def reached(paths: Plain, components: Plain) -> dict[str, Plain]:
    """The components that the paths refer to, directly or through others; what the document itself lacks is left out."""
    found: dict[str, Plain] = {}
    seen: set[str] = set()
    waiting = list(references(paths))
    while waiting:
        reference = waiting.pop()
        _, _, kind, name = reference.split("/", 3)
        if reference in seen or name not in components.get(kind, {}):
            continue
        seen.add(reference)
        part = without_texts(components[kind][name])
        found.setdefault(kind, {})[name] = part
        waiting += references(part)
    return found


def _lines(parts: Plain) -> str:
    rows = [f"{json.dumps(name)}:{json.dumps(part, separators=(',', ':'))}" for name, part in sorted(parts.items())]
    return "{\n" + ",\n".join(rows) + "\n}"


def trimmed(document: Plain) -> str:
    """The smaller document as text."""
    paths = {path: without_texts(document["paths"][path]) for path in PATHS}
    components = reached(paths, document["components"])
    kinds = ",\n".join(f"{json.dumps(kind)}:{_lines(parts)}" for kind, parts in sorted(components.items()))
    head = {"openapi": document["openapi"], "info": {"title": document["info"]["title"], "version": document["info"]["version"]}}
    start = json.dumps(head, separators=(",", ":"))[:-1]
    return f'{start},\n"paths":{_lines(paths)},\n"components":{{{kinds}}}}}\n'


def main() -> None:
    """Read the full document, write the trimmed one."""
    parser = argparse.ArgumentParser(description="Cut OpenAI's OpenAPI document down to the paths that Luthier serves.")
    parser.add_argument("full", type=Path, help="OpenAI's document, JSON")
    text = trimmed(json.loads(parser.parse_args().full.read_text(encoding="utf-8")))
    json.loads(text)
    TRIMMED.parent.mkdir(parents=True, exist_ok=True)
    TRIMMED.write_text(text, encoding="utf-8")
    print(f"{TRIMMED.relative_to(ROOT)}: {len(text):,} bytes")


if __name__ == "__main__":
    main()
