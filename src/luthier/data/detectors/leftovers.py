"""Finds what was left behind in texts: special tokens, marks of prompt formats, unfilled templates, HTML, broken characters.

What it does: for each kind a cheap look for its telling characters in the whole row, and a pattern only where they are. Texts
with code are left alone where code may look the same. What it does not: judge answers as answers (``answer_faults.py``). Called by
the doctor.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from luthier.core.doctor_report import DoctorFinding, Weight
from luthier.data.detectors.seen_row import SeenRow, SeenText, all_text
from luthier.data.detectors.tally import Tally, excerpt, have


class _Kind(NamedTuple):
    """One kind of leftover."""

    code: str
    signs: tuple[str, ...]
    """One of these stands in every text of the kind."""
    pattern: re.Pattern[str]
    what: str
    """Follows "3 rows have"."""
    why: str
    cure: str
    roles: frozenset[str]
    in_code: bool = False
    """Whether texts with code are looked at too."""
    in_arguments: bool = False
    """Whether arguments and results of tools are looked at too."""
    grave_in_answers: bool = True
    """Whether it is serious in what the model learns to say."""


_ALL = frozenset({"system", "user", "assistant", "tool"})
_SPOKEN = frozenset({"user", "assistant"})
_ANSWERS = frozenset({"assistant"})
_CODE = ("```", "<code", "<pre")
_CP1252 = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"

_SPECIAL = re.compile(
    r"<\|[A-Za-z_][\w ]{0,40}\|>|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>"
    r"|<(?:bos|eos|pad|unk)>|\[(?:PAD|UNK|CLS|SEP)\]"
    r"|\[/?(?:TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\]|\A\s*<s>|</s>\s*\Z"
)
_MARKER = re.compile(r"^[ \t]*#{2,4} ?(?:Instruction|Input|Response|Human|Assistant|User|System|Réponse)s?[ \t]*:", re.MULTILINE)
_SPEAKER = re.compile(
    r"\A\s*(?:Assistant|AI|Bot|ChatGPT|GPT)[ \u00a0]?:(?=\s)|^(?:User|Human|Utilisateur)[ \u00a0]?:(?=\s)"
    r"|\n(?:Assistant|AI|Bot)[ \u00a0]?:[ \t]*\Z",
    re.MULTILINE,
)
_TEMPLATE = re.compile(
    r"(?<![\w}\\$])\{\{ ?-?[ ]{0,4}[A-Za-z_][\w.]{0,60} {0,4}(?:\|[^{}\n]{0,60})?-?\}\}"
    r"|(?<![\w{$\\])\{(?:input|question|context|instruction|prompt|user_input|query|answer|response|history|chat_history)\}(?!\})"
    r"|\[INSERT [A-Z][^\]\n]{0,60}\]|<INSERT [A-Z][^>\n]{0,60}>"
)
_BOILERPLATE = re.compile(
    r"\b[Aa]s an? (?:large |AI |artificial intelligence ?)*(?:language model|AI model|AI assistant)\b|\b[Aa]s an AI,"
    r"|\bI(?:'m| am|’m) (?:just |only )?an AI (?:language )?(?:model|assistant)\b"
    r"|\bmy (?:knowledge|training)(?: data)? (?:cut-?off|cutoff)|\b(?:trained|developed|created) by OpenAI\b"
    r"|\b[Ee]n tant qu(?:e|['’]) ?(?:grand )?(?:modèle de langage|modèle d['’]IA|IA\b|assistant (?:IA|virtuel)|intelligence artificielle)",
)
_HTML = re.compile(
    r"&(?:nbsp|amp|lt|gt|quot|apos|eacute|egrave|agrave|ccedil|rsquo|lsquo|hellip|#\d{2,5}|#x[0-9a-fA-F]{2,5});"
    r"|</?(?:br|p|div|span|a|b|i|u|em|strong|font|li|ul|ol|table|tbody|td|th|tr|h[1-6]|img|blockquote)(?:\s[^<>\n]{0,200})?/?>"
)
_MOJIBAKE = re.compile(
    rf"Ã[\u0080-\u00bf{_CP1252}]|Â[\u00a0-\u00bf]|Å[“”’\u0092\u0093]|â€[{_CP1252}\u0080-\u009f]|ï»¿|ðŸ[{_CP1252}\u0080-\u00bf]|ï¿½|\ufffd"
)
_ESCAPE = re.compile(r"(?<![:\\])\\n(?=\\n|[^a-z\"'`)\]]|\Z)|(?<!\\)\\u(?:00|20)[0-9a-fA-F]{2}")
_OTHER_BACKSLASH = re.compile(r"\\[^ntru\"'/]")

_KINDS = (
    _Kind(
        code="special_token",
        signs=("<|", "INST]", "SYS>", "_of_turn>", "s>", "<pad>", "<unk>", "<｜", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "TOOL"),
        pattern=_SPECIAL,
        what="special tokens of a chat format in their texts",
        why="The server renders messages in the model's own format, so these become plain text that the model learns to print.",
        cure="Take them out; a row's roles say who speaks.",
        roles=_ALL,
        in_code=True,
        in_arguments=True,
    ),
    _Kind(
        code="prompt_marker",
        signs=("##",),
        pattern=_MARKER,
        what='headings of a prompt format, such as "### Response:",',
        why="Rows made for another format teach the model to print its headings, and to expect them.",
        cure="Split such texts into messages with roles: luthier data import does so for Alpaca rows.",
        roles=_SPOKEN,
    ),
    _Kind(
        code="role_prefix",
        signs=("Assistant", "AI", "Bot", "GPT", "User", "Human", "Utilisateur"),
        pattern=_SPEAKER,
        what='a speaker\'s name before a text, such as "Assistant:",',
        why="Names in the texts teach the model to print them, or to go on with the other speaker's part.",
        cure="Take the names off, and give each speaker a message of its own.",
        roles=_SPOKEN,
    ),
    _Kind(
        code="unfilled_template",
        signs=("{", "[INSERT ", "<INSERT "),
        pattern=_TEMPLATE,
        what='variables of a template that were not filled, such as "{{name}}",',
        why="The model learns to print the variable's name where a value should stand.",
        cure="Fill them, or remove the rows.",
        roles=_ALL - {"tool"},
    ),
    _Kind(
        code="assistant_boilerplate",
        signs=("language model", " AI", "utoff", "ut-off", "OpenAI", "modèle d", "'IA", "’IA", " IA", "virtuel", "artificielle"),
        pattern=_BOILERPLATE,
        what='phrases of another assistant, such as "As an AI language model",',
        why="They come from another model's answers, and the tuned model will say them too.",
        cure="Rewrite these answers, or remove the rows.",
        roles=_ANSWERS,
        in_code=True,
        grave_in_answers=False,
    ),
    _Kind(
        code="html_remnant",
        signs=("<", "&"),
        pattern=_HTML,
        what="HTML tags or entities outside of code",
        why="Remnants of a web page teach the model to print tags.",
        cure="Convert the texts to plain text, unless HTML is what the model shall write.",
        roles=_SPOKEN,
        grave_in_answers=False,
    ),
    _Kind(
        code="mojibake",
        signs=("Ã", "Â", "Å", "â€", "ï»¿", "ðŸ", "ï¿½", "\ufffd"),
        pattern=_MOJIBAKE,
        what="characters broken by a wrong encoding",
        why="UTF-8 was read as another encoding on the way; the model learns to write the broken characters.",
        cure="Make the file anew from its source with the right encoding (ftfy repairs most such texts).",
        roles=_ALL,
        in_code=True,
        in_arguments=True,
    ),
    _Kind(
        code="literal_escape",
        signs=("\\n", "\\u"),
        pattern=_ESCAPE,
        what="escapes written as text, such as \\n for a new line,",
        why="The texts were escaped twice, so the model learns to print a backslash and a letter.",
        cure="Decode them once before they are written as JSON.",
        roles=_SPOKEN,
    ),
)


class Leftovers:
    """Counts rows with each kind of leftover."""

    codes = tuple(kind.code for kind in _KINDS)

    def __init__(self) -> None:
        self._tallies = {kind.code: Tally() for kind in _KINDS}
        self._in_answers = dict.fromkeys(self._tallies, 0)
        # Broken characters are not ASCII, so most texts need not be searched for them.
        self._kinds = (_KINDS, tuple(kind for kind in _KINDS if kind.code != "mojibake"))

    def see(self, row: SeenRow) -> None:
        """Look at all texts of a row."""
        text = all_text(row)
        has_code: bool | None = None
        for kind in self._kinds[text.isascii()]:
            for sign in kind.signs:
                if sign in text:
                    break
            else:
                continue
            # One look at the row before its texts are taken one by one; not for patterns about the beginning of a text.
            if kind.pattern.search(text) is None and "\\A" not in kind.pattern.pattern:
                continue
            if not kind.in_code:
                has_code = any(mark in text for mark in _CODE) if has_code is None else has_code
                if has_code:
                    continue
            self._see(kind, row)

    def _see(self, kind: _Kind, row: SeenRow) -> None:
        first: tuple[SeenText, re.Match[str]] | None = None
        trained = False
        for seen in row.texts:
            if seen.role not in kind.roles or (not kind.in_arguments and _is_of_tools(seen)):
                continue
            match = kind.pattern.search(seen.text)
            if match is None or (kind.code == "literal_escape" and _is_meant(seen.text)):
                continue
            first = first or (seen, match)
            trained = trained or seen.trained
        if first is None:
            return
        tally = self._tallies[kind.code]
        tally.add(row.line, excerpt(first[0].text, *first[1].span()) if tally.wants_example() else "")
        self._in_answers[kind.code] += trained

    def findings(self) -> Iterator[DoctorFinding]:
        """One finding for each kind that there is."""
        for kind in _KINDS:
            tally, trained = self._tallies[kind.code], self._in_answers[kind.code]
            if not tally.count:
                continue
            where = f", {trained:,} of them in trained answers" if trained else ", none of them in a trained answer"
            if kind.roles == _ANSWERS:
                where = ""
            yield tally.finding(
                kind.code,
                Weight.SERIOUS if trained and kind.grave_in_answers else Weight.WORTH_A_LOOK,
                finding=f"{have(tally.count)} {kind.what.removesuffix(',')}{where}.",
                why=kind.why,
                cure=kind.cure,
            )


def _is_of_tools(seen: SeenText) -> bool:
    return seen.role == "tool" or seen.path.endswith(".arguments")


def _is_meant(text: str) -> bool:
    r"""Whether a text holds ``\n`` for good: one with real line ends, JSON, or a path, pattern or formula with other backslashes."""
    return "\n" in text.strip() or text.lstrip().startswith(("{", "[")) or _OTHER_BACKSLASH.search(text) is not None
