"""Prepares training files: ``python -m luthier.worker.prepare_data import|export|fix|split|redact ...``, started by the command line.

What it does: takes the commands' arguments, calls the library functions of ``data``, prints figures to standard output and notes
to standard error, and ends with the command line's exit codes. What it does not: need a server, or load torch.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from luthier.core.errors import InvalidRequest, LuthierError, Unavailable
from luthier.core.settings import from_environment
from luthier.data.export_rows import FORMS, export_rows
from luthier.data.import_rows import BadRows, import_rows
from luthier.data.redact import KINDS, CannotRedact, KindCount, redact
from luthier.data.repair import SHOWN_LINES, Lines, repair
from luthier.data.split import split

# Those of ``cli/exit_codes.py``, which stands a floor above.
_EXIT_CODES: tuple[tuple[type[LuthierError], int], ...] = ((BadRows, 5), (CannotRedact, 5), (InvalidRequest, 2), (Unavailable, 6))


def _note(text: str) -> None:
    print(_plain(text), file=sys.stderr)


def _plain(text: str) -> str:
    """A file's words as text on one line: no control characters reach a terminal."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)


def _import(arguments: argparse.Namespace, max_line_bytes: int) -> int:
    said = dict(pair.split("=", 1) for pair in arguments.map)
    done = import_rows(
        arguments.source, arguments.output, said=said, skip_bad=arguments.skip_bad, max_line_bytes=max_line_bytes, note=_note
    )
    left = f", {done.num_bad:,} left out" if done.num_bad else ""
    print(f"{arguments.output}: {done.num_rows:,} rows{left}")
    return 0


def _export(arguments: argparse.Namespace, max_line_bytes: int) -> int:
    num_rows = export_rows(
        arguments.file, arguments.output, form=arguments.to, skip_bad=arguments.skip_bad, max_line_bytes=max_line_bytes, note=_note
    )
    print(f"{arguments.output}: {num_rows:,} rows as {arguments.to}")
    return 0


def _fix(arguments: argparse.Namespace, max_line_bytes: int) -> int:
    report = repair(arguments.file, arguments.output, diff=arguments.diff, max_line_bytes=max_line_bytes, completions=arguments.to_chat)
    for kind, lines in report.changes.items():
        print(f"{kind}: {_where(lines)}")
    print(f"{arguments.output}: {report.num_changed:,} of {report.num_lines:,} lines changed")
    if report.still_broken.count:
        raise BadRows(f"No cure makes JSON objects of {_where(report.still_broken)}; they stand in the copy as they were.")
    return 0


def _where(lines: Lines) -> str:
    first = ", ".join(f"{number:,}" for number in lines.first)
    more = f" and {lines.count - len(lines.first):,} more" if lines.count > len(lines.first) else ""
    return f"{lines.count:,} {'line' if lines.count == 1 else 'lines'} ({first}{more})"


def _split(arguments: argparse.Namespace, max_line_bytes: int) -> int:
    folder: Path = arguments.out_dir or arguments.file.parent
    train, valid = (folder / f"{arguments.file.stem}.{side}.jsonl" for side in ("train", "valid"))
    done = split(arguments.file, train, valid, share=arguments.valid, seed=arguments.seed, max_line_bytes=max_line_bytes)
    total = done.num_train + done.num_valid
    print(f"{train}: {done.num_train:,} rows")
    print(f"{valid}: {done.num_valid:,} rows ({done.num_valid / total:.1%} of {total:,}; asked for {arguments.valid:.1%})")
    print(f"groups: {done.num_groups:,}, kept together by {done.method}")
    print(f"rows that share their group: {done.num_grouped:,}; the largest group has {done.largest_group:,}")
    if done.labels is None:
        print("answers: no labels, so rows are taken as they come")
    else:
        for label, (num_train, num_valid) in done.labels.items():
            print(f"label {_plain(label)}: {num_train:,} for training, {num_valid:,} for validation")
    return 0


def _lines_so_far(count: int) -> None:
    """On a terminal, a line that is written over; nothing where notes go to a file."""
    if sys.stderr.isatty():
        print(f"\r{count:,} lines\r", end="", file=sys.stderr, flush=True)


def _redact(arguments: argparse.Namespace, max_line_bytes: int) -> int:
    kinds = [name.strip() for name in arguments.kinds.split(",") if name.strip()]
    done = redact(arguments.file, arguments.output, kinds=kinds, max_line_bytes=max_line_bytes, on_progress=_lines_so_far)
    if arguments.json:
        counts = {kind: {name: getattr(count, name) for name in KindCount.__slots__} for kind, count in done.kinds.items()}
        report = {"output": str(arguments.output), "num_lines": done.num_lines, "num_changed": done.num_changed, "kinds": counts}
        print(json.dumps(report))
        return 0
    for kind, count in done.kinds.items():
        if count.num_values:
            where = _where(Lines(count.num_lines, count.lines[:SHOWN_LINES]))
            print(f"{kind}: {count.num_values:,} replaced, {count.num_different:,} different, in {where}")
    print(f"{arguments.output}: {done.num_changed:,} of {done.num_lines:,} lines changed")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)

    def add(name: str, call: Callable[[argparse.Namespace, int], int]) -> argparse.ArgumentParser:
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
    command.add_argument("--json", action="store_true")
    return parser


def main() -> None:
    """Command line: the command and its arguments; the longest line comes from the environment."""
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    arguments = _parser().parse_args()
    try:
        sys.exit(arguments.call(arguments, from_environment().max_line_bytes))
    except LuthierError as error:
        follows = "" if "luthier data" in error.message else f" Try: luthier data {arguments.name} --help"
        print(f"luthier: {_plain(error.message)}{follows}", file=sys.stderr)
        sys.exit(next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1))
    except OSError as error:  # a full disk, a file that may not be read
        print(f"luthier: {_plain(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
