"""Tokens as coloured text: what is trained, what is only read, what is a mark of the template.

Colour never stands alone: trained tokens are underlined, marks of the template are in angle brackets of their own, and a
legend says so. Called by ``stages.py`` and ``prediction.py``.
"""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from luthier.cli.render.text import token_text

STYLES = {"trained": "bold green underline", "context": "cyan", "special": "dim italic magenta"}
_ALTERNATE = " on grey15"


def token_line(tokens: Sequence[dict[str, Any]]) -> Text:
    """All tokens in a row; every other one shaded, so that their borders show."""
    line = Text()
    for i, token in enumerate(tokens):
        style = STYLES.get(str(token.get("kind")), "")
        line.append(token_text(str(token.get("text", ""))), style=style + (_ALTERNATE if i % 2 else ""))
    return line


def legend() -> Text:
    """What the colours mean."""
    text = Text("tokens: ", style="dim")
    text.append("trained (counts in the loss)", style=STYLES["trained"])
    text.append("  ")
    text.append("context (only read)", style=STYLES["context"])
    text.append("  ")
    text.append("mark of the template", style=STYLES["special"])
    return text.append("  · is a space, ⏎ a new line", style="dim")
