"""Step 2: packing: rows of every part become one long line of tokens, cut into blocks; the mixture says how many of each.

Each phase of ``data/mixture.json`` is one file of unsigned 16-bit token ids, ``[blocks, length + 1]``: the last id of a block is the
first of the next one of its part. Most rows are short and attention costs by length, so only the last phase has long blocks.
A row ends with ``<|endoftext|>``; the network reads no further back than that. Beside them lie blocks of held-out text of every
part, and a manifest that says from what all of it was made.
Run: ``python -m pretraining.pack --corpus DIR --work DIR --tokens 36000000``.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pretraining import corpus, keep_out, tokenizer
from pretraining.errors import PretrainingError, run_script
from pretraining.frames import EVALUATION_FRAME
from pretraining.parts import Parts, pieces
from pretraining.tasks import TaskMaker

HELD_OUT_LENGTH = 256
_ROWS_AT_ONCE = 2000
_HELD_OUT_BLOCKS = 64
_HELD_OUT_SEED = 77


class Stream:
    """Blocks of one part, taken as they are needed; never ends."""

    def __init__(self, rows: Iterator[str], encoder: Tokenizer) -> None:
        self._rows = rows
        self._encoder = encoder
        self._held = np.empty(0, dtype=np.uint16)

    def take(self, num_blocks: int, length: int) -> np.ndarray[Any, Any]:
        """The next blocks, ``[num_blocks, length + 1]``."""
        needed = num_blocks * length + 1
        parts, size = [self._held], len(self._held)
        while size < needed:
            ids = _encode(list(islice(self._rows, _ROWS_AT_ONCE)), self._encoder)
            parts.append(ids)
            size += len(ids)
        line = np.concatenate(parts)
        self._held = line[num_blocks * length :]
        return np.lib.stride_tricks.sliding_window_view(line[:needed], length + 1)[::length].copy()


def _encode(rows: list[str], encoder: Tokenizer) -> np.ndarray[Any, Any]:
    ids: list[int] = []
    for encoding in encoder.encode_batch_fast(rows):
        ids += encoding.ids
        ids.append(tokenizer.END_OF_TEXT)
    return np.array(ids, dtype=np.uint16)


def held_out_rows(folder: Path, part: str) -> Iterator[str]:
    """Rows of one held-out part, finite for text and pairs: what the loss is watched on."""
    if part.startswith("text_"):
        texts = corpus.heldout_text(folder, part.removeprefix("text_"))
        return iter([piece for text in texts for piece in pieces(text)[:1]])
    held = [pair for pair in corpus.pairs(folder) if pair.split == "heldout_dev"]
    if part == "pairs":
        return iter([f"{EVALUATION_FRAME.format(en=pair.en)} {pair.fr}" for pair in held if pair.rank == 1])
    maker = TaskMaker([(language, text) for pair in held for language, text in (("en", pair.en), ("fr", pair.fr))], _HELD_OUT_SEED)
    return iter([maker.row() for _ in range(1500)])


HELD_OUT_PARTS = ("text_en", "text_fr", "pairs", "tasks")


def pack(folder: Path, work: Path, tokens: int, seed: int) -> dict[str, Any]:
    """Write every phase and the held-out blocks; returns the manifest.

    Raises:
        PretrainingError: a packing of another configuration lies there already, or a mixture that does not add up.
    """
    encoder = tokenizer.load(work)
    mixture = json.loads((corpus.DATA / "mixture.json").read_text(encoding="utf-8"))
    configuration = {
        "tokens": tokens,
        "seed": seed,
        "held_out_length": HELD_OUT_LENGTH,
        "mixture": mixture,
        "tokenizer_sha256": hashlib.sha256((work / "tokenizer.json").read_bytes()).hexdigest(),
    }
    target = work / "packed"
    if (target / "manifest.json").is_file():
        manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
        if manifest["configuration"] == configuration:
            print(f"pack: {target} is there already")
            return manifest
        raise PretrainingError(f"{target} was packed with another configuration. Give another --work, or delete that folder.")
    target.mkdir(parents=True, exist_ok=True)
    manifest = {"configuration": configuration, "phases": _write_phases(folder, target, encoder, configuration), "held_out": {}}
    for part in HELD_OUT_PARTS:
        ids = _encode(list(held_out_rows(folder, part)), encoder)
        count = min(_HELD_OUT_BLOCKS, (len(ids) - 1) // HELD_OUT_LENGTH)
        blocks = np.lib.stride_tricks.sliding_window_view(ids[: count * HELD_OUT_LENGTH + 1], HELD_OUT_LENGTH + 1)[::HELD_OUT_LENGTH]
        blocks.tofile(target / f"held_out_{part}.bin")
        manifest["held_out"][part] = count
    (target / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def _write_phases(folder: Path, target: Path, encoder: Tokenizer, configuration: dict[str, Any]) -> list[dict[str, Any]]:
    parts = Parts(folder, configuration["seed"])
    streams: dict[str, Stream] = {}
    phases = []
    for phase in configuration["mixture"]["phases"]:
        if abs(sum(phase["parts"].values()) - 1) > 1e-6:
            raise PretrainingError(f"The shares of phase {phase['name']} in data/mixture.json do not add up to 1.")
        total = configuration["tokens"] * phase["share"] / phase["length"]
        counts = {name: round(total * share) for name, share in phase["parts"].items()}
        taken = []
        for name, count in counts.items():
            if name not in streams:
                streams[name] = Stream(parts.rows(name), encoder)
            taken.append(streams[name].take(count, phase["length"]))
        blocks = np.concatenate(taken)
        order = np.random.default_rng(configuration["seed"]).permutation(len(blocks))
        blocks[order].tofile(target / f"{phase['name']}.bin")
        phases.append({"name": phase["name"], "length": phase["length"], "blocks": len(blocks), "blocks_of_part": counts})
        print(f"pack: {phase['name']}, {len(blocks) * phase['length']:,} tokens", flush=True)
    return phases


def packed_rows(work: Path) -> Iterator[str]:
    """The text of every row of every phase, read back from the packed tokens; rows that a block's border cut come in two."""
    encoder = tokenizer.load(work)
    manifest = json.loads((work / "packed" / "manifest.json").read_text(encoding="utf-8"))
    for phase in manifest["phases"]:
        blocks = np.fromfile(work / "packed" / f"{phase['name']}.bin", dtype=np.uint16).reshape(phase["blocks"], -1)
        for text in encoder.decode_batch(blocks.tolist(), skip_special_tokens=False):
            yield from text.split(tokenizer.SPECIAL[tokenizer.END_OF_TEXT])


def check(folder: Path, work: Path) -> None:
    """Read everything that was packed and stop if something is in it that must be kept out.

    Raises:
        PretrainingError: the first breach, and how many there are.
    """
    found = list(keep_out.violations(packed_rows(work), corpus.pairs(folder)))
    if found:
        raise PretrainingError(f"The packed text breaks a keep-out rule {len(found)} times; first: {found[0]}")
    print("pack: nothing is in it that must be kept out")


def main() -> None:
    """Read the command line and pack."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    corpus.verify(arguments.corpus)
    pack(arguments.corpus, arguments.work, arguments.tokens, arguments.seed)
    check(arguments.corpus, arguments.work)


if __name__ == "__main__":
    run_script(main)
