"""The doctor's report as a page: what was found, the weightiest first, what was looked for, and what was not.

What it does not: examine, or print. Called by ``cli/data_doctor.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal, plain

_STYLES = {"serious": "bold red", "worth_a_look": "yellow", "information": "cyan"}
_WORDS = {"serious": "serious", "worth_a_look": "worth a look", "information": "for information"}
_FORMATS = {"prompt_completion": "prompt/completion"}
_LINES_SHOWN = 10


def page(report: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The parts of the page, from top to bottom."""
    yield _head(report)
    if not report["num_rows"]:
        yield Text("No row could be examined.", style="red")
        return
    if report["findings"]:
        yield _table(report["findings"])
    for finding in report["findings"]:
        yield _finding(finding)
    yield _sizes(report["statistics"])
    if report["skipped"]:
        yield _skipped(report["skipped"])
    yield _summary(report)


def _head(report: Mapping[str, Any]) -> Text:
    rows = f"{report['num_rows']:,} row{'s'[: report['num_rows'] != 1]}"
    kind = f"{_FORMATS.get(report['format'], report['format'])} rows, " if report["format"] else ""
    validation = report["statistics"].get("validation")
    text = literal(report["file"], style="bold")
    text.append(f"  {kind}{rows}", style="dim")
    if validation is not None:
        text.append(f", against {plain(validation['file'])} with {validation['rows']:,}", style="dim")
    return text.append("\n")


def _table(findings: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(
        Column("weight", no_wrap=True),
        Column("finding", no_wrap=True),
        Column("count", justify="right", no_wrap=True),
        Column("lines", overflow="fold"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for finding in findings:
        style = _STYLES[finding["weight"]]
        table.add_row(Text(_WORDS[finding["weight"]], style=style), literal(finding["code"]), f"{finding['count']:,}", _lines(finding))
    return table


def _lines(finding: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{line}" for line in finding["lines"][:_LINES_SHOWN])
    return shown + (" ..." if len(finding["lines"]) > _LINES_SHOWN else "")


def _finding(finding: Mapping[str, Any]) -> RenderableType:
    text = literal(finding["code"], style=_STYLES[finding["weight"]])
    text.append(f"\n{plain(finding['finding'])}")
    if finding["measured_on"] is not None:
        text.append(f" Measured on {finding['measured_on']:,} rows.")
    for example in finding["examples"]:
        text.append(f"\n  {plain(example, max_length=300)}", style="italic")
    text.append(f"\nWhy: {plain(finding['why'])}", style="dim")
    text.append(f"\nDo: {plain(finding['cure'])}\n")
    return Padding(text, (0, 0, 0, 2))


def _sizes(statistics: Mapping[str, Any]) -> Text:
    text = Text()
    for name, words in (("prompt", "Prompts"), ("answer", "Answers")):
        sizes = statistics.get(f"{name}_chars")
        if sizes is not None and sizes["most"]:
            text.append(f"{words}: median {sizes['median']:,} characters, 90 % between {sizes['p5']:,} and {sizes['p95']:,}, ")
            text.append(f"longest {sizes['most']:,}; {statistics[f'different_{name}s']:,} different\n")
    labels = statistics.get("labels")
    if labels:
        shown = ", ".join(f"{plain(label, max_length=40)} {count:,}" for label, count in list(labels.items())[:10])
        text.append(f"Labels ({len(labels):,}): {shown}{' ...' if len(labels) > 10 else ''}\n")
    for name, found in statistics.get("models", {}).items():
        text.append(f"{plain(name)}: {_lengths(found)}\n")
    return text


def _lengths(found: Mapping[str, Any]) -> str:
    could, looked = found["rows_that_may_be_longer"], found["rows_tokenised"]
    if not could:
        return f"every row is shorter than its {found['max_length']:,} tokens"
    sampled = f"a sample of {looked:,} of the {could:,}" if looked < could else f"all {could:,}"
    return f"{found['rows_longer']:,} rows longer than its {found['max_length']:,} tokens ({sampled} that may be were tokenised)"


def _skipped(skipped: Mapping[str, str]) -> Text:
    text = Text("Not looked for:", style="dim")
    for reason, entries in groupby(sorted(skipped.items(), key=lambda entry: entry[1]), key=lambda entry: entry[1]):
        text.append(f"\n  {', '.join(plain(code) for code, _ in entries)}: {plain(reason)}", style="dim")
    return text


def _summary(report: Mapping[str, Any]) -> Text:
    by_weight = {weight: sum(finding["weight"] == weight for finding in report["findings"]) for weight in _WORDS}
    found = ", ".join(f"{number} {_WORDS[weight]}" for weight, number in by_weight.items() if number)
    style = next((_STYLES[weight] for weight, number in by_weight.items() if number), "green")
    return Text(f"{len(report['checks'])} checks: {found or 'nothing found'}", style=style)
