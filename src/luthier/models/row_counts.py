"""Few different numbers of rows for matrix products: on a CPU each new one costs a routine.

What it does: rounds a number up, by at most a sixteenth, so that a run meets a few dozen numbers instead of hundreds. oneDNN makes a
routine of its own for each matrix and number of rows, in one to three milliseconds, and keeps up to 1,024 of them, each 0.4 to 0.9 MB.
What it does not: pad (``decoder.py`` does). Called by ``decoder.py`` and ``training/work.py``, so that a forecast knows of it.
"""

_EXACT = 32
"""Up to here every number is itself: a sixteenth of it is less than two rows."""


def even_rows(count: int) -> int:
    """``count``, or the next multiple of a sixteenth of the power of two below it: 100 stays 100, 101 becomes 104."""
    if count <= _EXACT:
        return count
    grain = 1 << ((count - 1).bit_length() - 5)
    return -(-count // grain) * grain
