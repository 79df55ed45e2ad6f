"""The one error of these scripts that a person can mend: it becomes a sentence and exit code 2, never a stack trace."""

import sys
from collections.abc import Callable


class PretrainingError(Exception):
    """A missing or changed input, or a state that does not fit; the message says what to do. Nothing was overwritten."""


def run_script(main: Callable[[], None]) -> None:
    """Run a script's ``main``; a ``PretrainingError`` ends it with its sentence and exit code 2."""
    try:
        main()
    except PretrainingError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
