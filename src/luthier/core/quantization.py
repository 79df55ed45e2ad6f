"""Bases in 4 bits: the option's one value, and whether the library that they need is installed.

What it does: looks for the library without importing it. What it does not: quantise (``models/nf4.py`` does). Called by ``api``, which
refuses a job, by ``worker/start.py``, and by ``models/nf4.py``.
"""

import importlib.util

NF4 = "nf4"
"""4-bit NormalFloat (Dettmers et al. 2023, arXiv:2305.14314)."""
NOT_INSTALLED = (
    "'luthier.quantization': 'nf4' needs the library bitsandbytes, which is not installed on this server. Install it with "
    "pip install 'luthier[qlora]', or leave the option out."
)

NOT_FULL = "holds the base in 4 bits, in which its weights cannot learn: it belongs to adapters, and not to 'adapter': 'full'."
"""What ``'luthier.quantization'`` does beside full tuning."""


def is_installed() -> bool:
    """Whether a base can be held in 4 bits here."""
    return importlib.util.find_spec("bitsandbytes") is not None
