"""The loss curve, drawn with characters.

What it does: train loss of every step and held-out loss where it was measured, on one scale. What it does not: smooth
anything; where several steps share a column, their mean is drawn. Called by ``report.py`` and the demo.
"""

import math
from collections.abc import Sequence

from rich.text import Text

from luthier.trace.events import EpochDone, StepDone

HEIGHT = 13  # odd, so that the middle label is half of the top one
_GUTTER = 7
_TRAIN, _VALID = "•", "○"


def loss_curve(steps: Sequence[StepDone], epochs: Sequence[EpochDone], *, width: int, height: int = HEIGHT) -> Text:
    """The curve, with a caption that states its finding.

    Args:
        steps: at least one, in order.
        epochs: their held-out losses are drawn at their last step.
        width: columns to fill.
        height: rows of the plot.
    """
    columns = max(10, width - _GUTTER - 2)
    last = steps[-1].step
    train = _mean_by_column([(s.step, s.loss) for s in steps], last, columns)
    valid = _mean_by_column([(row.step, row.valid_loss) for row in epochs], last, columns)
    values = [*train.values(), *valid.values()]
    if not values:
        return Text("no finite loss to draw", style="dim")
    top = _round_up(max(values))
    plot = Text(f"{'loss':>{_GUTTER - 1}} ", style="dim")
    plot.append(f"{_TRAIN} train, every step", style="cyan")
    if valid:
        plot.append("   ")
        plot.append(f"{_VALID} held out, whole file at epoch end", style="bold yellow")
    plot.append("\n")
    for row in range(height):
        plot.append_text(_row(row, height, top, train, valid, columns))
    plot.append(" " * _GUTTER + "└" + "─" * (columns + 1) + "\n", style="dim")
    right = f"step {last}"
    plot.append(" " * (_GUTTER + 2) + "step 1" + right.rjust(columns - 6) + "\n", style="dim")
    return plot.append_text(_caption(steps, epochs))


def _mean_by_column(points: Sequence[tuple[int, float | None]], last: int, columns: int) -> dict[int, float]:
    sums: dict[int, list[float]] = {}
    for step, loss in points:
        if loss is not None and math.isfinite(loss):
            column = 0 if last == 1 else round((step - 1) / (last - 1) * (columns - 1))
            sums.setdefault(column, []).append(loss)
    return {column: sum(losses) / len(losses) for column, losses in sums.items()}


def _round_up(value: float) -> float:
    """The scale's upper end: the next of 1, 1.5, 2, 3, 5, 7 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((power * m for m in (1, 1.5, 2, 3, 4, 5, 6, 8) if power * m >= value), power * 10)


def _level(value: float, top: float, height: int) -> int:
    """Row of a value, counted from above."""
    return min(height - 1, max(0, height - 1 - round(value / top * (height - 1))))


def _row(row: int, height: int, top: float, train: dict[int, float], valid: dict[int, float], columns: int) -> Text:
    ticks = {0, height // 2, height - 1}
    label = f"{top * (height - 1 - row) / (height - 1):.2f}" if row in ticks else ""
    text = Text(f"{label:>{_GUTTER - 1}} │ ", style="dim")
    cells = [" "] * columns
    for column, loss in train.items():
        if _level(loss, top, height) == row:
            cells[column] = _TRAIN
    for column, loss in valid.items():
        if _level(loss, top, height) == row:
            cells[column] = _VALID
    for cell in cells:
        text.append(cell, style={_TRAIN: "cyan", _VALID: "bold yellow"}.get(cell, ""))
    return text.append("\n")


def _caption(steps: Sequence[StepDone], epochs: Sequence[EpochDone]) -> Text:
    if epochs:
        first, final = epochs[0], epochs[-1]
        finding = f"Train loss {first.train_loss:.2f} in epoch {first.epoch}"
        if final is not first:
            finding += f", {final.train_loss:.2f} in epoch {final.epoch}"
        held_out = [row for row in epochs if row.valid_loss is not None]
        if held_out:
            best = min(held_out, key=lambda row: row.valid_loss or 0.0)
            finding += f"; best held-out loss {best.valid_loss:.2f} after epoch {best.epoch}"
        return Text(finding + ".", style="italic")
    return Text(f"Train loss {steps[-1].loss:.2f} at step {steps[-1].step} of {steps[-1].total_steps}.", style="italic")
