"""Tier A of the prediction trace: tokens of the prompt, top probabilities of base beside tuned, the generated path.

What it does: draws what the log-probabilities of an engine tell. What it does not: layers and attention (``layers.py``); a job's own
trace has none and says where they are. Called by ``report.py`` and ``cli/trace.py``.
"""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from luthier.cli.render.text import bar, literal, token_text
from luthier.cli.render.tokens import legend, token_line

TOP_ROWS = 8
_PATH_ROWS = 24
_BAR = 10
_NOT_HELD_OUT = " (a training prompt: the job has no validation file)"
OTHER_LAYERS = "Embedding, transformer layers and attention of any prompt: luthier trace JOB --prompt TEXT"


def prediction(traced: dict[str, Any]) -> RenderableType:
    """One prediction, base beside tuned. ``traced`` as in ``trace/view.py``; its ``base`` is None where there is nothing to compare."""
    base = traced["base"]["path"] if traced["base"] is not None else []
    asked = literal(traced["prompt"], "bold")
    if not traced.get("held_out", True):
        asked.append(_NOT_HELD_OUT, style="dim")
    parts: list[RenderableType] = [
        Text("prompt  ", style="dim") + asked,
        Text("base    ", style="dim") + _answer(traced["base"]),
        Text("tuned   ", style="dim") + _answer(traced["tuned"]),
        Text(),
        Text(f"Input: {len(traced['prompt_tokens'])} tokens", style="bold"),
        token_line(traced["prompt_tokens"]),
        legend(),
        Text(),
        Text("Output: the most probable first tokens, base beside tuned", style="bold"),
        _first_tokens(base, traced["tuned"]["path"]),
        *_ended_at_once(traced),
        Text("Generation: the path taken, token by token (greedy)", style="bold"),
        _paths(base, traced["tuned"]["path"]),
        *([] if "layers" in traced else [Text(OTHER_LAYERS, style="dim italic")]),
    ]
    return Group(*parts)


def _ended_at_once(traced: dict[str, Any]) -> list[RenderableType]:
    """An engine tells no alternatives of an end token: say so, instead of showing an empty column without a word."""
    silent = [side for side in ("base", "tuned") if traced[side] is not None and not traced[side]["path"]]
    if not silent:
        return []
    return [Text(f"The {' and the '.join(silent)} model ended its answer at once: no token, so no alternatives to show.", style="dim")]


def _answer(side: dict[str, Any] | None) -> Text:
    if side is None:
        return Text("(nothing to compare with)", style="dim")
    return literal(side["answer"], "bold") if side["answer"] else Text("(empty answer)", style="dim")


def _grid(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), header_style="bold")
    for name in names:
        numeric = name in ("#", "p", "rank")
        table.add_column(name, justify="right" if numeric else "left", overflow="ellipsis", no_wrap=True)
    return table


def _first_tokens(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> Table:
    table = _grid("rank", "base", "p", "", "tuned", "p", "")
    left, right = _top(base), _top(tuned)
    for rank in range(max(len(left), len(right))):
        table.add_row(str(rank + 1), *_cells(left, rank, ""), *_cells(right, rank, "green"))
    return table


def _top(path: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list(path[0].get("top", ()))[:TOP_ROWS] if path else []


def _cells(entries: list[dict[str, Any]], rank: int, style: str) -> tuple[Text, str, Text]:
    if rank >= len(entries):
        return Text(), "", Text()
    probability = float(entries[rank]["probability"])
    return (
        Text(token_text(str(entries[rank]["token"])), style=style),
        f"{probability:.3f}",
        Text(bar(probability, _BAR), style=style or "cyan"),
    )


def _paths(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> Table:
    table = _grid("#", "base", "p", "tuned", "p", "tuned's next choice")
    shown = min(max(len(base), len(tuned)), _PATH_ROWS)
    for i in range(shown):
        table.add_row(str(i + 1), *_step(base, i), *_step(tuned, i), _runner_up(tuned, i))
    longest = max(len(base), len(tuned))
    if longest > shown:
        table.add_row("…", Text(f"{longest - shown} more", style="dim"))
    return table


def _step(path: list[dict[str, Any]], i: int) -> tuple[Text, str]:
    if not path:
        return Text(), ""
    if i >= len(path):
        told = bool(path) and bool(path[-1].get("end"))
        return Text("(ended)" if i == len(path) and not told else "", style="dim"), ""
    return Text(token_text(str(path[i]["token"])), style="bold"), f"{float(path[i]['probability']):.3f}"


def _runner_up(path: list[dict[str, Any]], i: int) -> Text:
    if i >= len(path):
        return Text()
    others = [t for t in path[i].get("top", ()) if t["token"] != path[i]["token"]]
    if not others:
        return Text()
    return Text(f"{token_text(str(others[0]['token']))} {float(others[0]['probability']):.3f}", style="dim")
