"""Where the ``luthier`` command begins: Ctrl-C ends it with one line and its exit code at any moment, while modules load too.

What it does: answers to the signal until the command itself does. What it does not: any work (``main.py``). The console script.
"""

import os
import signal
import sys
from types import FrameType

_DETACHED = 130
"""As in ``exit_codes.py``, which is not loaded yet."""


def main() -> None:
    """Console entry point."""
    # In the background of a script, Ctrl-C is not ours to hear.
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _end)
    from luthier.cli.main import cli

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli()
    except KeyboardInterrupt:
        _end(signal.SIGINT, None)
    finally:
        if heard:  # all is done: nothing is left to stop but Python itself
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(_signum: int, _frame: FrameType | None) -> None:
    sys.stderr.write("luthier: Stopped.\n")
    sys.stderr.flush()
    os._exit(_DETACHED)


if __name__ == "__main__":
    main()
