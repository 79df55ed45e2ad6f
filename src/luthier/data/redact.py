"""Writes a copy of a training file in which secrets and personal data are replaced by placeholders.

What it does: replaces what ``detectors`` finds, wherever it stands in a row (arguments of tool calls, keys and numbers too); the same
value gets the same placeholder everywhere in the file, and rows stay valid JSON, other bytes as they were. Values are known by
keyed hashes only, whose key is forgotten at the end. What it does not: change the file itself, or copy a line that it could not
read. Called by ``worker/prepare_data.py`` and ``worker/dataset_kinds.py``.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.data.detectors.personal_data import find_personal, phone_finder
from luthier.data.detectors.private_span import Finder, PrivateKind, Span, apart
from luthier.data.detectors.secret_patterns import secret_finder
from luthier.data.finding import Finding
from luthier.data.json_texts import rewrite_texts, texts_in
from luthier.data.new_file import new_file, refuse_existing
from luthier.data.parse import parse_object
from luthier.data.read import UTF8_BOM, Progress

KINDS = tuple(kind.value for kind in PrivateKind)
SHOWN_LINES = 50
_AT_ONCE = 100_000
"""Longer rows are looked at text by text, because finders give up on a text after many vain tries."""
_WORDS = {
    PrivateKind.SECRET: "SECRET",
    PrivateKind.EMAIL: "EMAIL",
    PrivateKind.PHONE: "PHONE",
    PrivateKind.CARD: "CARD",
    PrivateKind.IBAN: "IBAN",
    PrivateKind.IP: "IP",
    PrivateKind.NATIONAL_ID: "ID",
}
_PLACEHOLDER = re.compile(rb"\[(%s)_(\d{1,9})\]" % b"|".join(word.encode() for word in _WORDS.values()))
_MARKS = re.compile(r"[\s().+/-]+")
_LIBRARIES = {PrivateKind.SECRET: "detect-secrets", PrivateKind.PHONE: "phonenumbers"}


class CannotRedact(LuthierError):
    """A line cannot be read, so nobody knows what it holds; nothing was written."""


@dataclass(slots=True)
class KindCount:
    """What was replaced of one kind."""

    num_values: int = 0
    num_different: int = 0
    num_lines: int = 0
    lines: list[int] = field(default_factory=list)
    """The first of the lines."""

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON."""
        return {"values": self.num_values, "different": self.num_different, "lines": {"count": self.num_lines, "first": self.lines}}


@dataclass(slots=True)
class Redaction:
    """What was done to a file."""

    num_lines: int = 0
    num_changed: int = 0
    kinds: dict[str, KindCount] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The redaction as JSON: of each kind that was looked for, what was replaced; never a value."""
        kinds = {kind: count.to_dict() for kind, count in self.kinds.items()}
        return {"lines": self.num_lines, "changed_lines": self.num_changed, "kinds": kinds}


class Redactor:
    """Replaces private values in texts; equal values get equal placeholders for as long as it lives."""

    def __init__(self, kinds: Sequence[str] = KINDS, *, taken: dict[str, int] | None = None) -> None:
        """Replace these kinds.

        Args:
            kinds: names of ``PrivateKind``.
            taken: word of a placeholder -> highest number that is in use already.

        Raises:
            InvalidRequest: there is no kind, one is unknown, or the library for it is missing.
        """
        self._kinds = frozenset(_kind(name) for name in kinds)
        if not self._kinds:
            raise InvalidRequest(f"Nothing is asked for. These can be redacted: {', '.join(KINDS)}.")
        self._finders = _finders(self._kinds)
        self._key = secrets.token_bytes(16)
        self._numbers: dict[bytes, int] = {}
        self._last = dict.fromkeys(_WORDS.values(), 0) | (taken or {})
        self.replaced: list[PrivateKind] = []
        """Kinds of all values that were replaced since the list was last cleared."""
        self.counts = {kind.value: KindCount() for kind in PrivateKind if kind in self._kinds}

    def redact(self, text: str) -> str | None:
        """The text with placeholders, or None when it has nothing private."""
        redacted = None
        # What is replaced may have hidden a part of its neighbour, so the result is looked at again.
        while (new := self._once(text if redacted is None else redacted)) is not None:
            redacted = new
        return redacted

    def has_something(self, texts: Sequence[str]) -> bool:
        """Whether any of these texts has something private. One look at all of them costs less than one at each."""
        # A line end is no letter or digit: what stands alone in its text stands alone here too.
        whole = "\n".join(texts)
        if len(whole) > _AT_ONCE:
            return True
        return any(span.kind in self._kinds for finder in self._finders for span in finder(whole))

    def _once(self, text: str) -> str | None:
        found = [span for finder in self._finders for span in finder(text) if span.kind in self._kinds]
        if not found:
            return None
        pieces: list[str] = []
        at = 0
        for span in apart(found):
            pieces += [text[at : span.start], self._placeholder(text, span)]
            at = span.end
        return "".join([*pieces, text[at:]])

    def _placeholder(self, text: str, span: Span) -> str:
        self.replaced.append(span.kind)
        word = _WORDS[span.kind]
        value = f"{word} {_same(text[span.start : span.end], span.kind)}"
        key = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), key=self._key, digest_size=16).digest()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self._last[word] = self._last[word] + 1
            self.counts[span.kind.value].num_different += 1
        return f"[{word}_{number}]"


def redact(
    path: Path,
    output: Path,
    *,
    kinds: Sequence[str] = KINDS,
    max_line_bytes: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Redaction:
    """Write the redacted copy of ``path`` to ``output``.

    Args:
        path: the file; it is only read.
        output: the copy.
        kinds: what is replaced: ``secrets``, ``emails``, ``phones``, ``cards``, ``ibans``, ``ips``, ``ids``.
        max_line_bytes: the longest line.
        on_progress: is given the number of bytes redacted so far.

    Raises:
        InvalidRequest: a kind is unknown, its library is missing, or ``output`` exists already.
        CannotRedact: a line is longer than that, or no JSON object; nothing was written.
    """
    refuse_existing(output)
    redactor = Redactor(kinds, taken=_taken(path, max_line_bytes))
    done, progress = Redaction(kinds=redactor.counts), Progress(on_progress)
    with new_file(output) as copy, path.open("rb") as file:
        while line := file.readline(max_line_bytes + 2):
            done.num_lines += 1
            progress.read(line)
            redactor.replaced.clear()
            new = _line(line, done.num_lines, redactor, max_line_bytes)
            done.num_changed += new is not line
            _count(done, redactor.replaced)
            copy.write(new)
    return done


def _line(line: bytes, number: int, redactor: Redactor, max_line_bytes: int) -> bytes:
    data = line.removesuffix(b"\n").removesuffix(b"\r")
    mark = UTF8_BOM if number == 1 and data.startswith(UTF8_BOM) else b""
    data = data[len(mark) :]
    if len(data) > max_line_bytes:
        raise CannotRedact(f"Line {number:,} is longer than {max_line_bytes:,} bytes; nothing was written. Raise LUTHIER_MAX_LINE_BYTES.")
    if not data.strip():
        return line
    row = parse_object(data)
    if isinstance(row, Finding):
        raise CannotRedact(f"Line {number:,}{row.text.rstrip('.')}; nothing was written. Mend it first: luthier data check")
    new = rewrite_texts(data, redactor.redact) if redactor.has_something(texts_in(data)) else data
    return line if new is data else mark + new + line[len(mark) + len(data) :]


def _count(done: Redaction, replaced: Sequence[PrivateKind]) -> None:
    for kind in set(replaced):
        count = done.kinds[kind.value]
        count.num_values += replaced.count(kind)
        count.num_lines += 1
        if len(count.lines) < SHOWN_LINES:
            count.lines.append(done.num_lines)


def _taken(path: Path, max_line_bytes: int) -> dict[str, int]:
    """The highest number of each placeholder that the file has already; new ones go on from there."""
    taken: dict[str, int] = {}
    with path.open("rb") as file:
        while line := file.readline(max_line_bytes + 2):
            if b"_" in line:
                for word, number in _PLACEHOLDER.findall(line):
                    taken[word.decode()] = max(taken.get(word.decode(), 0), int(number))
    return taken


def _kind(name: str) -> PrivateKind:
    try:
        return PrivateKind(name)
    except ValueError:
        raise InvalidRequest(f"{name!r} is no kind. These can be redacted: {', '.join(KINDS)}.") from None


def _finders(kinds: frozenset[PrivateKind]) -> list[Finder]:
    finders: list[Finder] = []
    for kind, make in ((PrivateKind.SECRET, secret_finder), (PrivateKind.PHONE, phone_finder)):
        if kind not in kinds:
            continue
        finder = make()
        if finder is None:
            raise InvalidRequest(
                f"To redact {kind.value}, the library {_LIBRARIES[kind]} is needed. Install it with: pip install 'luthier[data]', "
                f"or name other kinds: --kinds {','.join(name for name in KINDS if name not in ('secrets', 'phones'))}"
            )
        finders.append(finder)
    if kinds - {PrivateKind.SECRET, PrivateKind.PHONE}:
        finders.append(find_personal)
    return finders


def _same(value: str, kind: PrivateKind) -> str:
    """The value without what does not make it another one: case of addresses, spaces and marks of numbers."""
    if kind in (PrivateKind.SECRET, PrivateKind.IP):
        return value
    return value.casefold() if kind is PrivateKind.EMAIL else _MARKS.sub("", value)
