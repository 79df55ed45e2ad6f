"""One line on what training's steps took: tokens a second, use of the device, padding, memory.

What it does: medians and the largest, of what the steps' events tell; what none of them tells is left out. Called by ``report.py``; the
rate alone by ``cli/follow.py``.
"""

from collections.abc import Sequence
from statistics import median

from rich.text import Text

from luthier.cli.render.text import size
from luthier.trace.events import StepDone


def rate_text(step: StepDone) -> str:
    """Tokens a second of one step; empty where nothing was measured."""
    return "" if step.tokens_per_second is None else f"{step.tokens_per_second:,.0f} tokens/s"


def work_line(steps: Sequence[StepDone]) -> Text | None:
    """The line; None where no step tells anything."""
    rates = [s.tokens_per_second for s in steps if s.tokens_per_second is not None]
    used = [s.flops_utilization for s in steps if s.flops_utilization is not None]
    padding = [(s.padding_share, s.tokens) for s in steps if s.padding_share is not None and s.tokens]
    memory = [s.memory_bytes for s in steps if s.memory_bytes is not None]
    parts: list[str] = []
    if rates:
        parts.append(f"{median(rates):,.0f} tokens/s in the middle step")
    if used:
        parts.append(f"{median(used) * 100:.0f} % of what the device does in the model's matrices")
    if padding:
        # Positions computed, from the tokens and the share of them that were none.
        positions = sum(tokens / (1 - share) for share, tokens in padding)
        parts.append(f"{(1 - sum(tokens for _, tokens in padding) / positions) * 100:.0f} % padding")
    if memory:
        parts.append(f"{size(max(memory))} of memory at most")
    return Text("Steps: " + ", ".join(parts), style="dim") if parts else None
