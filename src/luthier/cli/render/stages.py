"""The five stages: shape in, what was done, shape out, one real sample, seconds, what was changed.

Called by ``report.py``.
"""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from luthier.cli.render.text import literal, number, plain, seconds
from luthier.cli.render.tokens import token_line
from luthier.core.stage import Stage
from luthier.trace.view import StageView, TraceView

TITLES = {
    Stage.COLLECTION: "Data collection",
    Stage.PREPROCESSING: "Data preprocessing",
    Stage.TRAINING: "Fine-tuning training",
    Stage.EVALUATION: "Evaluation",
    Stage.DEPLOYMENT: "Deployment",
}
_MARKS = {"waiting": "·", "running": "…", "done": "✓"}
_MAX_SAMPLE = 300


def stages(view: TraceView) -> RenderableType:
    """All five stages, in order, one under the other."""
    parts: list[RenderableType] = []
    for position, stage in enumerate(view.stages.values(), 1):
        parts.append(_heading(position, stage, ended=view.finished is not None))
        parts.append(_body(stage))
    return Group(*parts)


def _heading(position: int, stage: StageView, *, ended: bool) -> Text:
    title = Text(f"{position} {TITLES[stage.stage]} ", style="bold")
    title.append(_MARKS[stage.status], style="green" if stage.status == "done" else "dim")
    if stage.report is not None:
        title.append(f"  {seconds(stage.report.seconds)}", style="dim")
    elif stage.status == "waiting":
        title.append("  left out" if ended else "  not reached yet", style="dim")
    return title


def _body(stage: StageView) -> RenderableType:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=9, justify="right", style="dim")
    grid.add_column(overflow="fold")
    report = stage.report
    if report is None:
        if stage.shape_in is not None:
            grid.add_row("in", literal(stage.shape_in))
        return grid
    grid.add_row("in", literal(report.shape_in))
    grid.add_row("done", literal(report.did))
    grid.add_row("out", literal(report.shape_out))
    for change in report.changes:
        grid.add_row("changed", literal(change))
    for label, content in _sample_rows(report.sample):
        grid.add_row(label, content)
    return grid


def _sample_rows(sample: dict[str, Any]) -> list[tuple[str, Text]]:
    rows: list[tuple[str, Text]] = []
    line = sample.get("line")
    where = f"line {line}" if line is not None else "sample"
    if "tokens" in sample:
        rows.append((where, token_line(sample["tokens"])))
    elif "messages" in sample:
        texts = [f"{plain(m.get('role', '?'))}: {plain(m.get('content', ''), max_length=_MAX_SAMPLE)}" for m in sample["messages"]]
        rows += [(where if i == 0 else "", Text(text)) for i, text in enumerate(texts)]
    elif "losses" in sample:
        if sample["losses"]:
            rows.append(("sample", _losses(sample["losses"])))
    elif "completion" in sample:
        rows.append((where, _asked(sample["prompt"], sample["completion"])))
    elif "expected" in sample:
        rows.append((where, _asked(sample["prompt"], sample["expected"], note=" (expected)")))
        rows.append(("base", _answer(sample.get("base"))))
        rows.append(("tuned", _answer(sample.get("tuned"))))
    elif "answer" in sample:
        rows.append(("asked", literal(sample.get("prompt", ""), max_length=_MAX_SAMPLE)))
        rows.append(("answer", _answer(sample["answer"])))
    return rows


def _asked(prompt: object, completion: object, note: str = "") -> Text:
    text = literal(prompt, max_length=_MAX_SAMPLE)
    text.append(" -> ", style="dim")
    return text.append_text(literal(completion, "bold", max_length=_MAX_SAMPLE)).append(note, style="dim")


def _answer(answer: object) -> Text:
    return Text("(empty answer)", style="dim") if not answer else literal(answer, "bold", max_length=_MAX_SAMPLE)


def _losses(losses: list[dict[str, float]]) -> Text:
    shown = losses if len(losses) <= 8 else [*losses[:4], *losses[-4:]]
    text = Text("loss of the sample example after each epoch: ")
    for i, entry in enumerate(shown):
        if i:
            text.append(" … " if len(losses) > 8 and i == 4 else " -> ", style="dim")
        text.append(number(entry.get("loss")))
    return text
