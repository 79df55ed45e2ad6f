"""Luthier: the OpenAI fine-tuning API on your own machines.

What it does: names the package and its version. What it does not: import any room; every room is imported where it is used.
Who calls it: everyone, for ``__version__``.
"""

__version__ = "0.1.0"
