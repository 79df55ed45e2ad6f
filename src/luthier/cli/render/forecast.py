"""A forecast as a page, and at a job's end forecast beside actual.

What it does not: estimate, or print. Called by ``cli/jobs_forecast.py`` and ``report.py``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal, seconds, size
from luthier.trace.events import ForecastChecked

_BASES = {"formula": "by formula", "dry_run": "from a measured dry run", "first_steps": "from the job's first steps"}
_PARTS = {
    "start": "start: rows, model",
    "range_test": "range test of the learning rate",
    "base": "measuring the base",
    "steps": "steps",
    "validation": "validation",
    "prompts": "prompts of the epochs' ends",
    "saves": "saves",
    "evaluation": "evaluation",
    "deployment": "deployment",
}


def _basis(name: str) -> str:
    return _BASES.get(name, name)


def page(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The parts of the page, from top to bottom."""
    made = found["forecast"]
    head = Text("Forecast ", style="bold").append(_basis(made["basis"]), style="dim")
    head.append("  model ").append_text(literal(found["base"], "bold")).append(f", {found['method']}")
    yield head
    yield _numbers(found)
    yield _parts(made)
    yield _buckets(made)
    if not found["fits"]:
        yield Text("Does not fit.", style="bold red")


def _between(span: Mapping[str, float], text: Any) -> str:
    return f"{text(span['likely'])} ({text(span['low'])} to {text(span['high'])})"


def _numbers(found: Mapping[str, Any]) -> Table:
    made = found["forecast"]
    grid = Table(Column(style="dim"), Column(overflow="fold"), box=None, show_header=False, pad_edge=False)
    grid.add_row("rows", f"{made['examples']:,} x {made['n_epochs']} epochs, longest {made['longest']:,} tokens{_left_out(found)}")
    grid.add_row("tokens per epoch", f"{made['tokens_per_epoch']:,} ({made['trained_per_epoch']:,} trained)")
    grid.add_row("tokens in all", f"{made['tokens']:,}")
    grid.add_row("steps", f"{made['total_steps']:,} ({made['steps_per_epoch']:,} an epoch, batch {made['batch_size']:,})")
    grid.add_row("time", _between(made["seconds"], seconds))
    grid.add_row("peak memory", f"{_between(made['peak_bytes'], size)} of {size(made['available_bytes'])} available")
    costs = found["costs"]
    if costs["own"] is not None:
        currency = costs["currency"]
        grid.add_row("cost", literal(_between(costs["own"], lambda value: f"{value:.4g} {currency}")))
    if costs["kilowatt_hours"] is not None:
        grid.add_row("energy", f"{costs['kilowatt_hours']:.4f} kWh at {made['watts']:.0f} W")
    for price in costs["openai"]:
        there = f"{price['amount']:.4g} {price['currency']} at OpenAI's last price for {price['model']}"
        grid.add_row("same tokens", literal(f"{there}, {price['per_million_tokens']:g} a million ({price['source']})"))
    return grid


def _left_out(found: Mapping[str, Any]) -> str:
    cut = f"; {found['truncated']:,} cut" if found["truncated"] else ""
    return cut + (f"; {found['skipped']:,} left out" if found["skipped"] else "")


def _parts(made: Mapping[str, Any]) -> Table:
    table = Table(
        "part", Column("likely", justify="right"), Column("from", justify="right"), Column("to", justify="right"), box=SIMPLE_HEAD
    )
    for part in made["parts"]:
        if part["seconds"]["high"] > 0:
            spans = [seconds(part["seconds"][key]) for key in ("likely", "low", "high")]
            table.add_row(literal(_PARTS.get(part["name"], part["name"])), *spans)
    return table


def _buckets(made: Mapping[str, Any]) -> Table:
    table = Table("longest row of a step", Column("steps an epoch", justify="right"), Column("a step", justify="right"), box=SIMPLE_HEAD)
    for bucket in made["buckets"]:
        table.add_row(f"{bucket['shortest']:,} to {bucket['longest']:,} tokens", f"{bucket['steps']:,}", seconds(bucket["seconds"]))
    return table


def forecast_line(made: Mapping[str, Any]) -> Text:
    """One line of a job's trace: what it will take."""
    text = Text("forecast ", style="dim").append(_basis(made["basis"]), style="dim")
    return text.append(f": {_between(made['seconds'], seconds)}, peak memory {_between(made['peak_bytes'], size)}")


def checked_table(checked: ForecastChecked) -> Table:
    """Forecast beside actual."""
    basis = _basis(checked.basis)
    table = Table("", Column(f"forecast ({basis})", justify="right"), Column("actual", justify="right"), box=SIMPLE_HEAD)
    spans = [{"low": low, "likely": likely, "high": high} for low, likely, high in (checked.forecast_seconds, checked.forecast_bytes)]
    table.add_row("time", _between(spans[0], seconds), seconds(checked.seconds))
    table.add_row("peak memory", _between(spans[1], size), size(checked.peak_bytes))
    table.add_row("tokens", f"{checked.forecast_tokens:,}", f"{checked.tokens:,}")
    return table
