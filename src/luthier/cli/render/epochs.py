"""The epoch table: loss and accuracy, trained and held out, each epoch with its observation.

Called by ``report.py`` and, while a job runs, by the demo.
"""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from luthier.cli.render.text import literal, number
from luthier.trace.view import TraceView


def epoch_table(view: TraceView) -> Table:
    """One row per epoch; the base's own measure as epoch 0. Held-out columns always stand there."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in ("epoch", "train loss", "token acc.", "held-out loss", "held-out acc."):
        table.add_column(name, justify="right", min_width=5)
    table.add_column("observation", overflow="fold", ratio=1)
    base = view.base
    if base is not None:
        held_out = (number(base.loss), number(base.accuracy))
        cells = ("-", "-", *held_out) if base.held_out else (*held_out, "-", "-")
        table.add_row("base", *cells, "before the first step", style="dim")
    observations = view.observations()
    for row in view.ordered_epochs():
        table.add_row(
            f"{row.epoch}/{row.n_epochs}",
            number(row.train_loss),
            number(row.train_accuracy),
            number(row.valid_loss),
            number(row.valid_accuracy),
            literal(observations[row.epoch]),
        )
    return table
