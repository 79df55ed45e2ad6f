"""Step 2: packing: rows of every part become one long line of tokens, cut into blocks; the mixture says how many of each.

Each phase of ``data/mixture.json`` is one file of unsigned 16-bit token ids, ``[blocks, length + 1]``: the last id of a block is the
first of the next one of its part. Most rows are short and attention costs by length, so only the last phase has long blocks.
A row ends with ``<|endoftext|>``; the network reads no further back than that. Beside them lie blocks of held-out text of every
part, and a manifest that says from what all of it was made. With ``--shards N`` the blocks are drawn by N independent seeds, in as many
processes as there are processors: what is packed depends on N, not on the machine.
Run: ``python -m pretraining.pack --corpus DIR --work DIR --tokens 36000000``.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from pretraining import corpus, keep_out, tokenizer
from pretraining.errors import PretrainingError, run_script
from pretraining.frames import EVALUATION_FRAME
from pretraining.parts import Material, Parts, pieces
from pretraining.tasks import TaskMaker

HELD_OUT_LENGTH = 256
_ROWS_AT_ONCE = 2000
_HELD_OUT_BLOCKS = 64
_HELD_OUT_SEED = 77
_CHECKED_AT_ONCE = 2000
_TOKENIZER_THREADS = "TOKENIZERS_PARALLELISM"
MIXTURES = {"cpu": "mixture.json", "gpu": "mixture_gpu.json"}
"""Which mixture a recipe is packed by."""


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


def pack(folder: Path, work: Path, tokens: int, seed: int, *, recipe: str = "cpu", shards: int = 1) -> dict[str, Any]:
    """Write every phase and the held-out blocks; returns the manifest.

    Raises:
        PretrainingError: a packing of another configuration lies there already, or a mixture that does not add up.
    """
    encoder = tokenizer.load(work)
    mixture = json.loads((corpus.DATA / MIXTURES[recipe]).read_text(encoding="utf-8"))
    configuration = {
        "tokens": tokens,
        "seed": seed,
        "shards": shards,
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
    shards, phases = configuration["shards"], configuration["mixture"]["phases"]
    counts = [_counts(phase, configuration["tokens"]) for phase in phases]
    material = Material(folder, _processes(shards))
    draw = partial(_shard, material, encoder, phases, counts, configuration["seed"], shards)
    taken = list(_each(draw, range(shards)))
    manifest = []
    for i, phase in enumerate(phases):
        blocks = np.concatenate([shard[i] for shard in taken])
        order = np.random.default_rng(configuration["seed"]).permutation(len(blocks))
        blocks[order].tofile(target / f"{phase['name']}.bin")
        manifest.append({"name": phase["name"], "length": phase["length"], "blocks": len(blocks), "blocks_of_part": counts[i]})
        print(f"pack: {phase['name']}, {len(blocks) * phase['length']:,} tokens", flush=True)
    return manifest


def _counts(phase: dict[str, Any], tokens: int) -> dict[str, int]:
    """Blocks of each part in one phase."""
    if abs(sum(phase["parts"].values()) - 1) > 1e-6:
        raise PretrainingError(f"The shares of phase {phase['name']} in its mixture do not add up to 1.")
    total = tokens * phase["share"] / phase["length"]
    return {name: round(total * share) for name, share in phase["parts"].items()}


def _shard(
    material: Material,
    encoder: Tokenizer,
    phases: list[dict[str, Any]],
    counts: list[dict[str, int]],
    seed: int,
    shards: int,
    number: int,
) -> list[np.ndarray[Any, Any]]:
    """The blocks of every phase that one shard draws, in the order of the parts."""
    parts = Parts(material, seed + number)
    streams: dict[str, Stream] = {}
    out = []
    for phase, of_part in zip(phases, counts, strict=True):
        taken = []
        for name, count in of_part.items():
            if name not in streams:
                streams[name] = Stream(parts.rows(name), encoder)
            taken.append(streams[name].take(count // shards + (number < count % shards), phase["length"]))
        out.append(np.concatenate(taken))
    return out


_job: Any = None
"""What a forked process calls: inherited, because the corpus is far too large to be sent."""


def _call(argument: Any) -> Any:
    return _job(argument)


def _processes(jobs: int) -> int:
    return max(1, min(jobs, os.cpu_count() or 1))


def _each(job: Any, arguments: Iterable[Any]) -> Iterator[Any]:
    """``job`` of every argument in order, in as many processes as there are arguments and processors; one stays here."""
    global _job
    arguments = list(arguments)
    if (processes := _processes(len(arguments))) == 1:
        yield from map(job, arguments)
        return
    _job = job
    before = os.environ.get(_TOKENIZER_THREADS)
    os.environ[_TOKENIZER_THREADS] = "false"  # they do not survive a fork
    try:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            yield from pool.imap(_call, arguments)
    finally:
        os.environ.pop(_TOKENIZER_THREADS)
        if before is not None:
            os.environ[_TOKENIZER_THREADS] = before


def _chunks(work: Path) -> Iterator[tuple[Path, int, int]]:
    """(file, length of its blocks, first block) of every piece of the packing that is read at once."""
    manifest = json.loads((work / "packed" / "manifest.json").read_text(encoding="utf-8"))
    for phase in manifest["phases"]:
        for start in range(0, phase["blocks"], _CHECKED_AT_ONCE):
            yield work / "packed" / f"{phase['name']}.bin", phase["length"], start


def _rows_of(encoder: Tokenizer, chunk: tuple[Path, int, int]) -> Iterator[str]:
    path, length, start = chunk
    width = length + 1
    ids = np.fromfile(path, dtype=np.uint16, count=_CHECKED_AT_ONCE * width, offset=2 * start * width)
    for text in encoder.decode_batch(ids.reshape(-1, width).tolist(), skip_special_tokens=False):
        yield from text.split(tokenizer.SPECIAL[tokenizer.END_OF_TEXT])


def packed_rows(work: Path) -> Iterator[str]:
    """The text of every row of every phase, read back from the packed tokens; rows that a block's border cut come in two."""
    encoder = tokenizer.load(work)
    for chunk in _chunks(work):
        yield from _rows_of(encoder, chunk)


def check(folder: Path, work: Path) -> None:
    """Read everything that was packed and stop if something is in it that must be kept out.

    Raises:
        PretrainingError: the first breach, and how many there are.
    """
    encoder, rules = tokenizer.load(work), keep_out.Rules(corpus.pairs(folder))

    def breaches(chunk: tuple[Path, int, int]) -> list[str]:
        return list(rules.violations(_rows_of(encoder, chunk)))

    found = list(chain.from_iterable(_each(breaches, _chunks(work))))
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
    parser.add_argument("--recipe", choices=MIXTURES, default="cpu", help="whose mixture is packed")
    parser.add_argument("--shards", type=int, default=1, help="independent draws, one process each")
    parser.add_argument("--unchecked", action="store_true", help="leave the reading back to a second call with the same numbers")
    arguments = parser.parse_args()
    corpus.verify(arguments.corpus)
    pack(arguments.corpus, arguments.work, arguments.tokens, arguments.seed, recipe=arguments.recipe, shards=arguments.shards)
    if not arguments.unchecked:
        check(arguments.corpus, arguments.work)


if __name__ == "__main__":
    run_script(main)
