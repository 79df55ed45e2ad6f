"""Shows rows as tokens: ``python -m luthier.worker.show_row PATH --line N --model NAME``, started by the command line.

What it does: writes JSON lines to standard output: one ``{"model": ...}``, then ``{"row": ...}`` for each line asked for; while the
file is packed, ``{"progress": ...}``. What it does not: print for people, need a server, or load torch.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, TypedDict

import orjson

from luthier.core.settings import from_environment
from luthier.data.validate import Method
from luthier.worker.base_folder import find_model
from luthier.worker.process_edge import told_errors
from luthier.worker.row_packing import pack_file
from luthier.worker.row_preview import load_reader, preview_lines


class _Asked(TypedDict):
    method: Method | None
    max_line_bytes: int


def _of(done: int, total: int) -> dict[str, Any]:
    return {"done": min(done, total), "total": total, "unit": "bytes"}


def main() -> None:
    """Command line: ``PATH --line N [--line M] --model NAME_OR_FOLDER [--max-length L] [--method ...] [--packing]``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--line", type=int, action="append", required=True)
    parser.add_argument("--model", default=None)
    parser.add_argument("--max-length", type=int, default=None)
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--method", choices=("supervised", "dpo", "reinforcement"), default=None)
    arguments = parser.parse_args()

    def tell(kind: str, value: object) -> None:
        sys.stdout.buffer.write(orjson.dumps({kind: value}, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()

    with told_errors("luthier data show"):
        settings = from_environment()
        model = find_model(arguments.model or settings.default_base, settings)
        reader = load_reader(model.folder, asked_length=arguments.max_length)
        length = reader.max_length
        tell("model", {"name": model.name, "max_length": length.value, "max_length_reason": length.reason})
        asked: _Asked = {"method": arguments.method, "max_line_bytes": settings.max_line_bytes}
        packed = None
        if arguments.packing:
            total = arguments.path.stat().st_size
            packed = pack_file(arguments.path, reader, **asked, on_progress=lambda done: tell("progress", _of(done, total)))
        rows = preview_lines(arguments.path, arguments.line, reader, **asked, packed=packed)
        for row in rows:
            tell("row", row)


if __name__ == "__main__":
    main()
