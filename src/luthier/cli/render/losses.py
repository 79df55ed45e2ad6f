"""The measured rows of a file as a page: how the losses lie, the highest and the lowest, and what stands out.

What it does not: measure, or print. Called by ``cli/data_losses.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal, number, plain

_SAYS = {"bizarre": "bizarre", "already_predicted": "already predicted"}


def page(report: Mapping[str, Any], name: str, *, top: int) -> Iterator[RenderableType]:
    """The parts of the page, from top to bottom.

    Args:
        report: as ``worker/row_losses.py`` tells it, with at least one row.
        name: of the file.
        top: rows shown at each end.
    """
    rows, statistics = report["rows"], report["statistics"]
    yield _head(report, name)
    loss = statistics["loss"]
    yield Text(
        f"Loss in nats per trained token: median {loss['median']:.2f}, mean {loss['mean']:.2f}; 5 % of rows below {loss['p05']:.2f}, "
        f"5 % above {loss['p95']:.2f}.\n"
        f"Of {statistics['num_tokens']:,} trained tokens {statistics['accuracy']:.1%} are the model's first choice."
    )
    ordered = sorted(rows, key=lambda row: (-row["loss"], row["line"]))
    if len(ordered) <= 2 * top:
        yield _table("all rows, highest loss first", ordered)
    else:
        yield _table("highest loss", ordered[:top])
        yield _table("lowest loss", ordered[-top:][::-1])
    for finding in report["findings"]:
        yield _finding(finding)
    if not report["findings"]:
        yield Text("Nothing stands out: no answer is bizarre to the model, and none is predicted already.", style="green")


def _head(report: Mapping[str, Any], name: str) -> Text:
    measured = report["statistics"]["num_measured"]
    share = "all" if report["is_complete"] else f"a sample (seed {report['seed']})"
    head = literal(name, style="bold")
    head.append(f"  {measured:,} rows measured with {plain(report['model'])} in {number(report['seconds'], 1)} s, {share} of ", style="dim")
    head.append(f"{report['num_lines']:,} lines", style="dim")
    if report["num_left_out"]:
        head.append(f"; {report['num_left_out']:,} lines left out (empty, with faults, or without a trained token)", style="yellow")
    return head


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        Column("line", justify="right", no_wrap=True),
        Column("loss", justify="right", no_wrap=True),
        Column("tokens", justify="right", no_wrap=True),
        Column("first choice", justify="right", no_wrap=True),
        Column("answer", no_wrap=True, overflow="ellipsis"),
        Column("", no_wrap=True),
        title=title,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in rows:
        share = f"{row['num_correct'] / row['num_tokens']:.0%}"
        says = Text(_SAYS.get(row["finding"], ""), style="yellow")
        table.add_row(f"{row['line']:,}", f"{row['loss']:.2f}", f"{row['num_tokens']:,}", share, literal(row["text"], max_length=60), says)
    return table


def _finding(finding: Mapping[str, Any]) -> Text:
    text = literal(f"{finding['code']}: {finding['finding']}", style="yellow")
    return text.append(f"\n  {plain(finding['why'])}\n  {plain(finding['cure'])}", style="dim")
