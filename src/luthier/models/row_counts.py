"""Few different numbers of rows for matrix products: on a CPU each new one costs a routine.

What it does: rounds a number up, from 65 on by at most an eighth, so that a run meets a dozen or two instead of hundreds. oneDNN
makes a routine of its own for each product and number of rows, in one to three milliseconds, and keeps up to 1,024, each 0.4 to 0.9 MB.
A prompt whose length is new to a process is read in three quarters of the time, since another has made its routines.
What it does not: pad (``decoder.py`` does). Called by ``decoder.py`` and ``training/work.py``, so that a forecast knows of it.
"""

_EXACT = 8
_GRAINS = ((16, 2), (64, 4), (128, 8))
"""Up to so many rows, the number they are rounded to. A few tokens more cost a short row little; a routine costs the same for all. Half as
many again were no faster for a whole run and took 100 MB more (``experiments/LOG.md``)."""


def even_rows(count: int) -> int:
    """``count`` rounded up: to an even number up to 16, a multiple of 4 up to 64, then of an eighth of the power of two below."""
    if count <= _EXACT:
        return count
    grain = next((grain for most, grain in _GRAINS if count <= most), None) or 1 << ((count - 1).bit_length() - 4)
    return -(-count // grain) * grain
