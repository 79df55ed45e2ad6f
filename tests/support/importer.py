"""Imports of small files in a folder of their own, and what they said."""

import json
from pathlib import Path

from luthier.data.import_rows import Imported, import_rows

LIMIT = 1 << 20


class Importer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.output = folder / "out.jsonl"

    def file(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def run(
        self, *sources: str, skip_bad: bool = False, limit: int = LIMIT, fetch=None, max_bytes: int | None = None, **said: str
    ) -> Imported:
        return import_rows(
            list(sources),
            self.output,
            said=said,
            skip_bad=skip_bad,
            max_line_bytes=limit,
            note=self.notes.append,
            max_bytes=max_bytes,
            fetch=fetch,
        )

    def talks(self) -> list[list[tuple[str, str]]]:
        rows = [json.loads(line) for line in self.output.read_text(encoding="utf-8").split("\n")[:-1]]
        return [[(m["role"], m["content"]) for m in row["messages"]] for row in rows]


def pair(prompt: str, completion: str) -> list[tuple[str, str]]:
    return [("user", prompt), ("assistant", completion)]
