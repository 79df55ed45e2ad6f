"""Prepares training files: ``python -m luthier.worker.prepare_data import|export|fix|split|redact ...``, started by the command line.

What it does: takes the commands' arguments, calls the library functions of ``data``, and writes JSON lines to standard output:
``{"note": text}`` and ``{"progress": {...}}`` on the way, one ``{"result": {...}}``, and ``{"error": {...}}`` with the command line's
exit code where it did not go well. What it does not: print for people, need a server, or load torch.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from luthier.core.errors import InvalidRequest, LuthierError, Unavailable
from luthier.core.settings import from_environment
from luthier.data.export_rows import FORMS, export_rows
from luthier.data.import_rows import BadRows, import_rows
from luthier.data.redact import KINDS, CannotRedact, redact
from luthier.data.repair import Lines, repair
from luthier.data.split import split
from luthier.worker.memory_bound import IMPORT_MEMORY_BYTES, bound_memory

# Those of ``cli/exit_codes.py``, which stands a floor above.
_EXIT_CODES: tuple[tuple[type[LuthierError], int], ...] = ((BadRows, 5), (CannotRedact, 5), (InvalidRequest, 2), (Unavailable, 6))


def _tell(kind: str, value: object) -> None:
    sys.stdout.buffer.write(orjson.dumps({kind: value}, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _note(text: str) -> None:
    _tell("note", text)


def _bytes_read(path: Path, times: int = 1) -> Callable[[int], None]:
    total = times * path.stat().st_size
    return lambda done: _tell("progress", {"done": min(done, total), "total": total, "unit": "bytes"})


def _rows_made(done: int) -> None:
    _tell("progress", {"done": done, "total": None, "unit": "rows"})


def _import(arguments: argparse.Namespace, max_line_bytes: int) -> None:
    bound_memory(IMPORT_MEMORY_BYTES)
    done = import_rows(
        arguments.source,
        arguments.output,
        said=dict(pair.split("=", 1) for pair in arguments.map),
        skip_bad=arguments.skip_bad,
        max_line_bytes=max_line_bytes,
        note=_note,
        on_progress=_rows_made,
    )
    _tell("result", {**done.to_dict(), "file": str(arguments.output)})


def _export(arguments: argparse.Namespace, max_line_bytes: int) -> None:
    num_rows = export_rows(
        arguments.file,
        arguments.output,
        form=arguments.to,
        skip_bad=arguments.skip_bad,
        max_line_bytes=max_line_bytes,
        note=_note,
        on_progress=_bytes_read(arguments.file),
    )
    _tell("result", {"rows": num_rows, "format": arguments.to, "file": str(arguments.output)})


def _fix(arguments: argparse.Namespace, max_line_bytes: int) -> None:
    done = repair(
        arguments.file,
        arguments.output,
        diff=arguments.diff,
        max_line_bytes=max_line_bytes,
        completions=arguments.to_chat,
        on_progress=_bytes_read(arguments.file),
    )
    diff = None if arguments.diff is None else str(arguments.diff)
    _tell("result", {**done.to_dict(), "file": str(arguments.output), "diff": diff})
    if done.still_broken.count:
        raise BadRows(
            f"No cure makes JSON objects of {_where(done.still_broken)}; they stand in the copy as they were. "
            f"See them: luthier data check {arguments.output}"
        )


def _where(lines: Lines) -> str:
    first = ", ".join(f"{number:,}" for number in lines.first)
    more = f" and {lines.count - len(lines.first):,} more" if lines.count > len(lines.first) else ""
    return f"{lines.count:,} {'line' if lines.count == 1 else 'lines'} ({first}{more})"


def _split(arguments: argparse.Namespace, max_line_bytes: int) -> None:
    folder: Path = arguments.out_dir or arguments.file.parent
    train, valid = (folder / f"{arguments.file.stem}.{side}.jsonl" for side in ("train", "valid"))
    done = split(
        arguments.file,
        train,
        valid,
        share=arguments.valid,
        seed=arguments.seed,
        max_line_bytes=max_line_bytes,
        on_progress=_bytes_read(arguments.file, times=2),
    )
    files: dict[str, Any] = {"training": str(train), "validation": str(valid)}
    _tell("result", {**done.to_dict(), "files": files})


def _redact(arguments: argparse.Namespace, max_line_bytes: int) -> None:
    kinds = [name.strip() for name in arguments.kinds.split(",") if name.strip()]
    done = redact(arguments.file, arguments.output, kinds=kinds, max_line_bytes=max_line_bytes, on_progress=_bytes_read(arguments.file))
    _tell("result", {**done.to_dict(), "file": str(arguments.output)})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def add(name: str, call: Callable[[argparse.Namespace, int], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name)
        command.set_defaults(call=call, name=name)
        return command

    command = add("import", _import)
    command.add_argument("source", nargs="+")
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--map", action="append", default=[])
    command.add_argument("--skip-bad", action="store_true")
    command = add("export", _export)
    command.add_argument("file", type=Path)
    command.add_argument("--to", choices=FORMS, required=True)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--skip-bad", action="store_true")
    command = add("fix", _fix)
    command.add_argument("file", type=Path)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--diff", type=Path)
    command.add_argument("--to-chat", action="store_true")
    command = add("split", _split)
    command.add_argument("file", type=Path)
    command.add_argument("--valid", type=float, required=True)
    command.add_argument("--seed", type=int, required=True)
    command.add_argument("--out-dir", type=Path)
    command = add("redact", _redact)
    command.add_argument("file", type=Path)
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--kinds", default=",".join(KINDS))
    return parser


def main() -> None:
    """Command line: the command and its arguments; the longest line comes from the environment."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that is gone: the end, without a word
    arguments = _parser().parse_args()
    try:
        # A command that is stopped unwinds, so that nothing half-written stays. Until here there is nothing to take away.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        arguments.call(arguments, from_environment().max_line_bytes)
    except LuthierError as error:
        code = next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)
        _tell("error", {"message": error.message, "exit_code": code})
    except OSError as error:  # a full disk, a file that may not be read
        _tell("error", {"message": str(error), "exit_code": 1})
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


if __name__ == "__main__":
    main()
