"""The report on a checked file as a page: findings, what to do about them, and what is sound.

What it does not: check, or print. Called by ``cli/data_check.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from luthier.cli.render.text import literal
from luthier.core.data_faults import RULES

_METHODS = {"supervised": "supervised fine-tuning", "dpo": "preferences (DPO)", "reinforcement": "reinforcement"}
_FORMATS = {"prompt_completion": "prompt/completion"}
_STYLES = {"error": "red", "warning": "yellow"}


def page(report: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """The parts of the page, from top to bottom; ``first`` are the findings that are shown one by one."""
    yield _head(report)
    if first:
        yield _findings(first)
        total = report["num_faults"] + report["num_warnings"]
        if total > len(first):
            yield Text(f"{len(first)} of {total:,} findings are shown; all of them: --json, or --csv PATH\n", style="dim")
        yield _cures(report)
    yield _sound(report)


def _head(report: Mapping[str, Any]) -> Text:
    kind = ""
    if report["format"] is not None:
        row_format = _FORMATS.get(report["format"], report["format"])
        kind = f"{row_format} rows for {_METHODS[report['method']]}, "
    lines = f"{report['num_lines']:,} line{'s'[: report['num_lines'] != 1]}"
    text = literal(report["file"], style="bold")
    text.append(f"  {kind}{lines}, {report['bytes']:,} bytes", style="dim")
    return text


def _findings(first: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("line", "byte", "code", "path")
    table = Table(
        *(Column(name, justify="right" if name in ("line", "byte") else "left", no_wrap=name != "path") for name in columns),
        Column("what is wrong", overflow="fold"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for finding in first:
        place = [str(finding[key]) if finding[key] else "" for key in ("line", "column")]
        code = literal(finding["code"], style=_STYLES[finding["severity"]])
        table.add_row(*place, code, literal(finding["path"], max_length=60), literal(finding["message"], max_length=400))
    return table


def _cures(report: Mapping[str, Any]) -> Table:
    table = Table(
        Column("code", no_wrap=True),
        Column("how often", justify="right"),
        Column("first line", justify="right"),
        Column("what to do", overflow="fold"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for code, entry in sorted(report["by_code"].items(), key=lambda item: -item[1]["count"]):
        rule = RULES[code]
        line = str(entry["first_line"]) if entry["first_line"] else ""
        table.add_row(literal(code, style=_STYLES[rule.severity.value]), f"{entry['count']:,}", line, literal(rule.cure))
    return table


def _sound(report: Mapping[str, Any]) -> Text:
    counts = report["counts"]
    text = Text()
    rows = counts["rows"]
    text.append(f"Sound: {rows:,} row{'s'[: rows != 1]}", style="green" if rows else "")
    if report["num_faulty_rows"]:
        text.append(f"; with faults: {report['num_faulty_rows']:,}", style="red")
    if "messages" in counts:
        roles = ", ".join(f"{number:,} {role}" for role, number in counts["roles"].items())
        text.append(f"\nMessages: {counts['messages']:,} ({roles}), {counts['fewest_messages']:,} to {counts['most_messages']:,} in a row")
        asides = (
            ("tool_calls", "tool calls"),
            ("rows_with_tools", "rows that offer tools"),
            ("assistant_messages_with_weight_0", "assistant messages with weight 0"),
            ("rows_without_system_message", "rows without a system message"),
            ("rows_without_user_message", "rows without a user message"),
        )
        found = [f"{words}: {counts[key]:,}" for key, words in asides if counts[key]]
        if found:
            text.append(f"\nAlso: {'; '.join(found)}")
    if rows:
        text.append(f"\nLongest row: line {counts['longest_line']:,}, {counts['longest_line_bytes']:,} bytes")
    return text
