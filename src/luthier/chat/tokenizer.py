"""Text to token ids and back, over ``tokenizer.json``. What it does not: know of messages (``renderer.py`` does).

Called by ``renderer.py``, ``stream.py`` and the engine (texts and bytes of tokens).
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as FastTokenizer

from luthier.chat.word_ids import WordIds
from luthier.chat.word_memo import WordEncoding, WordMemo, fits
from luthier.core.errors import InvalidRequest


class Tokenizer:
    """A Hugging Face fast tokenizer as Luthier uses it: special marks in a text are parsed, none is added by itself."""

    def __init__(self, fast: FastTokenizer, config: dict[str, Any]) -> None:
        self._fast = fast
        self._config = config
        plain = json.loads(fast.to_str())
        self._added: dict[int, str] = {entry["id"]: entry["content"] for entry in plain["added_tokens"]}
        self._byte_level = _uses_byte_level(plain)
        self._byte_of = _byte_alphabet() if self._byte_level else {}
        self._space_pieces = not self._byte_level and "▁" in json.dumps(plain.get("decoder"), ensure_ascii=False)
        self.drops_first_space: bool = self._space_pieces and _strips_first_space(plain.get("decoder"))
        """SentencePiece style: the space that begins a text belongs to the encoding, not to the text (Gemma's are without this)."""
        self.special_ids: frozenset[int] = frozenset(entry["id"] for entry in plain["added_tokens"] if entry["special"])
        self._is_special = np.zeros(max((*self._added, 0)) + 2, dtype=bool)
        self._is_special[list(self.special_ids)] = True
        self._words = WordMemo(fast, plain) if fits(plain) else None
        self.vocab_size: int = fast.get_vocab_size(with_added_tokens=True)
        self.eos_id: int | None = self.id_of(self.mark("eos_token"))
        self.bos_id: int | None = self.id_of(self.mark("bos_token"))
        opening = fast.encode("", add_special_tokens=True).ids
        self.opening_ids: tuple[int, ...] = (opening[0],) if opening and opening[0] == self.bos_id else ()
        """What the tokenizer's own convention puts before a bare text: the BOS mark or nothing."""

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Read ``tokenizer.json`` and, where there is one, ``tokenizer_config.json``.

        Raises:
            InvalidRequest: a file is missing or cannot be read.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise InvalidRequest(f"{folder.name} has no tokenizer.json.")
        stamp = path.stat()
        try:
            fast = _read(path, stamp.st_ino, stamp.st_mtime_ns, stamp.st_size)
        except Exception as error:  # The library raises nothing narrower, whatever is wrong with the file.
            raise InvalidRequest(f"tokenizer.json of {folder.name} cannot be read.") from error
        return cls(fast, read_json(folder / "tokenizer_config.json"))

    def encode(self, text: str) -> list[int]:
        """Ids of a text; special marks in it become their ids, no mark is added."""
        return self._fast.encode(text, add_special_tokens=False).ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and, for each, the range of characters of ``text`` it stands for (ranges of one split character repeat)."""
        encoding = self.encodings([text])[0]
        return encoding.ids, encoding.offsets

    def encodings(self, texts: Sequence[str]) -> Sequence[Encoding | WordEncoding]:
        """The library's own objects or their like, of many texts at once; ids as ``encode`` gives them."""
        if self._words is not None:
            return self._words.encodings(texts)
        return self._fast.encode_batch(list(texts), add_special_tokens=False)

    def word_ids(self) -> WordIds | None:
        """A new table of words; None for a tokenizer whose words are not certain."""
        return None if self._words is None else WordIds(self._fast, self.all_marks())

    def all_marks(self) -> tuple[str, ...]:
        """Texts of all that is taken out of a text before anything else: special marks and other added ones."""
        return tuple(self._added.values())

    def special_positions(self, ids_T: np.ndarray) -> list[int]:
        """Where special marks stand among ids."""
        return np.flatnonzero(self._is_special.take(ids_T, mode="clip")).tolist()

    def with_marks_renamed(self, names: Mapping[str, str]) -> "Tokenizer":
        """A tokenizer with the same ids that knows its special marks by other texts; the old texts are ordinary text to it.

        Raises:
            InvalidRequest: this kind of tokenizer cannot be changed so.
        """
        plain = json.loads(self._fast.to_str())
        for entry in plain["added_tokens"]:
            entry["content"] = names.get(entry["content"], entry["content"]) if entry["special"] else entry["content"]
        model = plain["model"]
        if isinstance(model.get("vocab"), dict):
            model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
        elif isinstance(model.get("vocab"), list):
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        if model.get("unk_token") in names:
            model["unk_token"] = names[model["unk_token"]]
        if "merges" in model:
            model["merges"] = [m for m in model["merges"] if ("".join(m) if isinstance(m, list) else m.replace(" ", "", 1)) not in names]
        try:
            return Tokenizer(FastTokenizer.from_str(json.dumps(plain)), self._config)
        except Exception as error:  # The library raises nothing narrower.
            message = "A message holds one of the model's special marks, and its tokenizer cannot read them as text. Take the mark out."
            raise InvalidRequest(message, param="messages") from error

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """Text of ids; bytes that form no character become U+FFFD."""
        return self._fast.decode(ids, skip_special_tokens=skip_special)

    def token_text(self, token: int) -> str:
        """One token as text, special marks by their name; U+FFFD for parts of a character."""
        return self.token_bytes(token).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for inside a text; empty for an id outside the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece = self._fast.id_to_token(token)
        if piece is None:
            return b""
        if self._byte_level:
            return bytes(self._byte_of[c] for c in piece) if all(c in self._byte_of for c in piece) else piece.encode()
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("▁", " ").encode() if self._space_pieces else piece.encode()

    def added_texts(self) -> tuple[str, ...]:
        """Texts of all special marks."""
        return tuple(self._added[i] for i in sorted(self.special_ids))

    def id_of(self, mark: str | None) -> int | None:
        """Id of a mark or vocabulary entry, or None."""
        return None if mark is None else self._fast.token_to_id(mark)

    def mark(self, name: str) -> str | None:
        """Text of a named mark of ``tokenizer_config.json`` such as ``eos_token``, or None."""
        value = self._config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        return value if isinstance(value, str) else None

    def marks(self) -> dict[str, str]:
        """All named marks, as templates see them: ``bos_token``, ``eos_token``, ``pad_token``, ..."""
        names = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
        return {name: text for name in names if (text := self.mark(name)) is not None}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty when there is no file. Raises InvalidRequest when it is no JSON object."""
    if not path.is_file():
        return {}
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidRequest(f"{path.name} is not valid JSON.") from error
    if not isinstance(plain, dict):
        raise InvalidRequest(f"{path.name} must hold a JSON object.")
    return plain


@lru_cache(maxsize=2)
def _read(path: Path, *_stamp: int) -> FastTokenizer:
    """The library's own object for a file as it is now. Jobs on one base share it: nobody changes it, and threads may meet in it."""
    fast = FastTokenizer.from_file(str(path))
    fast.no_padding()
    fast.no_truncation()
    return fast


def _uses_byte_level(plain: dict[str, Any]) -> bool:
    decoder = plain.get("decoder") or {}
    return decoder.get("type") == "ByteLevel" or any(d.get("type") == "ByteLevel" for d in decoder.get("decoders", ()))


def _strips_first_space(decoder: dict[str, Any]) -> bool:
    parts = decoder.get("decoders", [decoder])
    return any(
        (d.get("type") == "Strip" and d.get("content") == " " and d.get("start", 0) > 0)
        or (d.get("type") == "Metaspace" and d.get("prepend_scheme", "always") != "never")
        for d in parts
    )


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in set(printable)]
    return table | {chr(256 + i): b for i, b in enumerate(others)}
