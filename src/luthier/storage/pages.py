"""One page of a list, as every store returns it.

What it does: holds the items and says whether more follow, and cuts a query's rows to a page. What it does not: know
tables. Called by the stores; read by ``api``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items in the order of the list; ``has_more`` is true when the list goes on after the last one."""

    items: tuple[T, ...]
    has_more: bool


def cut(rows: Sequence[R], limit: int, make: Callable[[R], T]) -> Page[T]:
    """A page of at most ``limit`` items from a query that asked for one row more."""
    return Page(items=tuple(make(row) for row in rows[:limit]), has_more=len(rows) > limit)
