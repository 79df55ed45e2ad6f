"""Small training files for end-to-end tests, cut from the project's own examples."""

import json
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples" / "translate-en-fr"


def pairs(name: str = "train.jsonl", count: int | None = None) -> list[tuple[str, str]]:
    """(prompt, completion) of the first rows."""
    rows = [json.loads(line) for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()]
    return [(row["prompt"], row["completion"]) for row in rows[:count]]


def prompt_completion_file(count: int = 24, name: str = "train.jsonl") -> bytes:
    """Rows of prompt and completion."""
    return _lines([{"prompt": p, "completion": c} for p, c in pairs(name, count)])


def chat_file(count: int = 24, name: str = "train.jsonl") -> bytes:
    """Rows of messages, with a system line."""
    system = {"role": "system", "content": "You translate."}
    return _lines(
        [{"messages": [system, {"role": "user", "content": p}, {"role": "assistant", "content": c}]} for p, c in pairs(name, count)]
    )


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
