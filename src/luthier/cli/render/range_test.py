"""The range test of the learning rate as a table: some of its rates, and what each did to the loss.

Called by ``report.py``. What it does not: choose; the event has the rate that was taken.
"""

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from luthier.trace.events import RangeTested

_ROWS = 9


def range_table(told: RangeTested) -> Table:
    """Evenly spaced rates of the test, and always the one with the lowest loss."""
    table = Table(
        Column("rate", justify="right"),
        Column("loss", justify="right"),
        Column("to the start", justify="right"),
        Column("smoothed", justify="right"),
        "",
        box=SIMPLE_HEAD,
        pad_edge=False,
        title=f"Range test of the learning rate: {len(told.rates)} of {told.steps} steps, {told.learning_rate:.3g} is taken",
        title_justify="left",
    )
    for at in shown_points(told):
        lowest = told.rates[at] == told.lowest_rate
        cells = (f"{told.losses[at]:.3f}", f"{told.changes[at]:+.3f}", f"{told.curve[at]:+.3f}")
        table.add_row(f"{told.rates[at]:.2e}", *cells, "lowest" if lowest else "")
    return table


def shown_points(told: RangeTested) -> list[int]:
    """Which of the test's steps are shown, in order."""
    last = len(told.rates) - 1
    if last < 0:
        return []
    found = {round(at * last / (_ROWS - 1)) for at in range(_ROWS)}
    if told.lowest_rate is not None:
        found.add(told.rates.index(told.lowest_rate))
    return sorted(found)
