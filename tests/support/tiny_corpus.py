"""A corpus of a few hundred rows in the shape of the real one, for tests of ``pretraining``.

What it does: write the files and a checksum table into a folder. What it does not: teach a model anything.
"""

import hashlib
import json
import lzma
from pathlib import Path

HELD_OUT = ("The clock strikes twelve.", "L'horloge sonne midi.")
EVERYDAY = ("Good morning.", "Bonjour.")
NAMES = ("enfr_pairs.tsv.xz", "text_en.txt.xz", "text_en.index.tsv", "text_fr.txt.xz", "text_fr.index.tsv")


def build(folder: Path, *, num_pairs: int = 240, num_documents: int = 120) -> Path:
    """Write the corpus; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("en", "fr", "source", "licence", "variant_rank", "variants", "split")]
    for i in range(num_pairs):
        rows.append(
            (f"We saw house number {i} today.", f"Nous avons vu la maison numéro {i}.", "tatoeba", "CC-BY-2.0-FR", "1", "1", "train")
        )
    rows.append((*EVERYDAY, "tatoeba", "CC-BY-2.0-FR", "1", "1", "demo_core"))
    rows.append((*HELD_OUT, "tatoeba", "CC-BY-2.0-FR", "1", "1", "heldout_dev"))
    rows.append((f"{HELD_OUT[0]} Come!", f"{HELD_OUT[1]} Viens !", "tatoeba", "CC-BY-2.0-FR", "1", "1", "train"))
    rows.append(("How do you say cat in French?", "Comment dit-on chat en français ?", "tatoeba", "CC-BY-2.0-FR", "1", "1", "train"))
    for i in range(40):
        rows.append(
            (
                f"Nobody opens door {i} twice.",
                f"Personne n'ouvre deux fois la porte {i}.",
                "tatoeba",
                "CC-BY-2.0-FR",
                "1",
                "1",
                "heldout_dev",
            )
        )
    with lzma.open(folder / "enfr_pairs.tsv.xz", "wt", encoding="utf-8") as file:
        file.writelines("\t".join(row) + "\n" for row in rows)
    for language, word in (("en", "The old man of house"), ("fr", "Le vieil homme de la maison")):
        _write_text(folder, language, [f"{word} {i} walks home.\n{word} {i} sleeps." for i in range(num_documents)])
    return folder


def write_checksums(folder: Path, data: Path) -> None:
    """The table that ``corpus.verify`` reads, for this corpus."""
    facts = {name: {"bytes": len(content := (folder / name).read_bytes()), "sha256": hashlib.sha256(content).hexdigest()} for name in NAMES}
    (data / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")


def _write_text(folder: Path, language: str, documents: list[str]) -> None:
    lines, offset = ["part\tdoc\tlicence\torigin\toffset\tbytes\tparagraphs"], 0
    with lzma.open(folder / f"text_{language}.txt.xz", "wb") as file:
        for i, document in enumerate(documents):
            content = f"{document}\n\n".encode()
            file.write(content)
            lines.append(f"{'storybooks' if i % 2 else 'classics'}\tbook {i}\tCC0\tours\t{offset}\t{len(content)}\t2")
            offset += len(content)
    (folder / f"text_{language}.index.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
