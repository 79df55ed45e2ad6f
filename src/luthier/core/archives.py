"""What the first bytes of a file give away: that it is compressed, or an archive.

What it does: names the format and the command that unpacks it. What it does not: unpack anything. Called by ``api/line_check.py``,
``data/parse.py`` and ``data/sources.py``.
"""

from dataclasses import dataclass

HEAD_BYTES = 8
"""As many first bytes as it takes."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A format, and what to do with a file of it."""

    name: str
    cure: str
    """The command that makes a plain file of it."""

    @property
    def refusal(self) -> str:
        """What is told of such a file, after its name."""
        return f"is compressed or packed ({self.name}), and nothing is unpacked here. Unpack it first ({self.cure})."


_BY_MAGIC = {
    b"\x1f\x8b": Archive("gzip", "gunzip FILE"),
    b"PK\x03\x04": Archive("zip", "unzip FILE"),
    b"\xfd7zXZ\x00": Archive("xz", "xz -d FILE"),
    b"BZh": Archive("bzip2", "bunzip2 FILE"),
    b"\x28\xb5\x2f\xfd": Archive("zstandard", "zstd -d FILE"),
    b"7z\xbc\xaf\x27\x1c": Archive("7-Zip", "7z x FILE"),
    b"PAR1": Archive("Parquet", "mv FILE NAME.parquet; luthier data import NAME.parquet -o NEW.jsonl"),
}


def archive_of(head: bytes) -> Archive | None:
    """The format that a file with these first bytes has; None for plain text."""
    return next((archive for magic, archive in _BY_MAGIC.items() if head.startswith(magic)), None)
