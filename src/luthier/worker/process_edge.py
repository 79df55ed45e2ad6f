"""How a process behind a command ends: one sentence on standard error, and the command line's exit code.

What it does not: know what the process does. Called by ``show_row.py`` and ``row_losses_process.py``.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from luthier.core.errors import InvalidRequest, LuthierError, NotFound, Unavailable

# Those of ``cli/exit_codes.py``, which stands a floor above.
_EXIT_CODES: tuple[tuple[type[LuthierError], int], ...] = ((InvalidRequest, 2), (NotFound, 4), (Unavailable, 6))


@contextmanager
def told_errors(command: str) -> Iterator[None]:
    """End the process with a sentence for an error of ours, a file that cannot be read, or Ctrl-C; a reader that is gone ends it quietly.

    Args:
        command: the command's full name, whose help is named after the sentence.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        getattr(stream, "reconfigure", lambda **_: None)(errors="replace")
    try:
        yield
    except LuthierError as error:
        print(f"luthier: {on_one_line(error.message)} Try: {command} --help", file=sys.stderr)
        sys.exit(next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1))
    except OSError as error:
        print(f"luthier: {on_one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def on_one_line(text: str) -> str:
    """A file's words as text on one line: no control characters reach a terminal."""
    return "".join(mark if mark.isprintable() else "?" for mark in text)
