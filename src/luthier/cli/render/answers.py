"""The fixed prompts and what the model answered to each, by the base and after every epoch.

What it does: lists an answer again only where it changed. Called by ``report.py``.
"""

from collections.abc import Sequence

from rich.text import Text

from luthier.cli.render.text import literal
from luthier.trace.events import PromptsAnswered

_PROMPT, _ANSWER = 100, 200


def fixed_prompts(answered: Sequence[PromptsAnswered]) -> Text:
    """``answered``: at least one, by epoch; an earlier attempt's epochs have the same prompts."""
    text = Text()
    for at, row in enumerate(answered[-1].answers):
        if at:
            text.append("\n")
        text.append(f"line {int(row['line'])}  ", style="bold").append_text(literal(row["prompt"], "dim", max_length=_PROMPT))
        text.append(" -> ", style="dim").append_text(literal(row["expected"], max_length=_ANSWER)).append(" (expected)", style="dim")
        before: str | None = None
        for one in answered:
            answer = next((other["answer"] for other in one.answers if other["line"] == row["line"]), None)
            if answer is None or answer == before:
                continue
            before = answer
            text.append(f"\n  {'base' if one.epoch == 0 else f'after epoch {one.epoch}':<15}")
            text.append_text(literal(answer or "(empty answer)", max_length=_ANSWER))
    return text
