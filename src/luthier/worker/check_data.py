"""Checks a local training file: ``python -m luthier.worker.check_data PATH``, started by the command line.

What it does: writes JSON lines to standard output: ``{"finding": ...}`` for each fault and warning as it is found,
``{"progress": bytes}`` in between, and one ``{"report": ...}`` at the end; it ends quietly when its reader goes. What it does
not: print for people, need a server, or load torch.
"""

import argparse
import gc
import signal
import sys
from pathlib import Path

import orjson

from luthier.core.data_report import finding_to_dict
from luthier.core.settings import from_environment
from luthier.data.check import check_file


def main() -> None:
    """Command line: ``PATH [--role ...] [--method ...]``; the longest line comes from the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("--role", choices=("training", "validation"), default="training")
    parser.add_argument("--method", choices=("supervised", "dpo", "reinforcement"), default=None)
    arguments = parser.parse_args()
    # Ctrl-C, or a reader that is gone: the end, without a word.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    output = sys.stdout.buffer
    # A parsed row has no cycles and goes at once: looking for garbage among its dictionaries costs a quarter of the time.
    gc.set_threshold(100_000)

    def tell(kind: str, value: object) -> None:
        output.write(orjson.dumps({kind: value}, option=orjson.OPT_APPEND_NEWLINE))

    def progress(num_bytes: int) -> None:
        tell("progress", num_bytes)
        output.flush()

    try:
        report = check_file(
            arguments.path,
            role=arguments.role,
            method=arguments.method,
            max_line_bytes=from_environment().max_line_bytes,
            on_finding=lambda finding: tell("finding", finding_to_dict(finding)),
            on_progress=progress,
        )
    except OSError as error:
        sys.exit(f"luthier: {arguments.path} cannot be read: {error.strerror}.")
    tell("report", report.to_dict())


if __name__ == "__main__":
    main()
