"""Plain tables, readable on a terminal and valid as Markdown. What it does not: know what the numbers mean. Called by every section."""

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with columns of equal width; numbers stand as they come, so round them first."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (headers, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(headers))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def show(title: str, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table under its title."""
    print(f"\n{title}\n\n{table(headers, rows)}\n", flush=True)


def percent(share: float) -> str:
    """A share between 0 and 1 in per cent with one decimal."""
    return f"{100 * share:.1f} %"


def verdict(holds: bool) -> str:
    """What stands beside a bound."""
    return "PASS" if holds else "FAIL"


def seeds_of(seeds: Sequence[int]) -> str:
    """Seeds as a table shows them."""
    return ", ".join(map(str, seeds))
