"""Text that is safe to print, and numbers with sane digits.

What it does: model and data-set text as plain text, whatever it holds: no terminal control, no markup. What it does not:
layout. Called by every other module here.
"""

import time
import unicodedata

from rich.text import Text

_VISIBLE = {"\n": "⏎", "\r": "⏎", "\t": "⇥"}
# Cc: terminal control. Cf: direction marks that reorder a line, zero-width text. Cs: half a character. Co/Cn: nothing to see.
# Zl/Zp: ends of lines and paragraphs other than "\n".
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def plain(text: object, *, max_length: int | None = None) -> str:
    """The text on one line without anything that a terminal would obey; cut with "…" after ``max_length`` characters."""
    safe = "".join(_VISIBLE.get(c, "" if unicodedata.category(c) in _UNSAFE else c) for c in str(text))
    if max_length is not None and len(safe) > max_length:
        safe = safe[: max(0, max_length - 1)] + "…"
    return safe


def literal(text: object, style: str = "", *, max_length: int | None = None) -> Text:
    """A rich ``Text``: markup in it is shown, not obeyed."""
    return Text(plain(text, max_length=max_length), style=style)


def token_text(text: str) -> str:
    """A token so that its spaces and an empty one can be seen."""
    return plain(text).replace(" ", "·") or "∅"


def seconds(value: float) -> str:
    """A duration: ``12 ms``, ``3.4 s``, ``2 min 05 s``, ``3 h 07 min``."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def when(unix: float | None, now: float | None = None) -> str:
    """A moment in words: ``5 minutes ago``, ``yesterday``, ``in 3 hours``; the date when it is further than a month; "-" for None."""
    if unix is None:
        return "-"
    distance = (time.time() if now is None else now) - unix
    apart = abs(distance)
    if apart < 10:
        return "just now" if distance >= 0 else "now"
    if 86400 <= distance < 2 * 86400:
        return "yesterday"
    for unit, length, limit in (("second", 1, 60), ("minute", 60, 3600), ("hour", 3600, 86400), ("day", 86400, 31 * 86400)):
        if apart < limit:
            count = int(apart // length)
            words = f"{count} {unit}" + ("" if count == 1 else "s")
            return f"{words} ago" if distance >= 0 else f"in {words}"
    day = time.localtime(unix)
    return f"{day.tm_mday} {time.strftime('%b %Y', day)}"


def size(num_bytes: float) -> str:
    """A size with a decimal unit: ``512 B``, ``1.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return ""


def number(value: float | None, digits: int = 2) -> str:
    """A measured number; "-" where nothing was measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def bar(share: float, width: int) -> str:
    """A bar of full blocks for a share of 0 to 1; at least a thin mark for anything above 0."""
    full = round(max(0.0, min(1.0, share)) * width)
    return "█" * full if full else ("▏" if share > 0 else "")
