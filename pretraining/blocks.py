"""The packed blocks of a work folder as batches: checked, kept on the device that trains, drawn again in a new order at every pass.

What it does not: pack (``pack.py``) or decide how many batches there are (``plan.py``). Called by ``train.py``.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pretraining.errors import PretrainingError
from pretraining.pack import HELD_OUT_LENGTH


class Blocks:
    """The packed blocks of all phases. The first pass over a phase goes in the order of ``pack.py``, which is shuffled already."""

    def __init__(self, work: Path, device: torch.device) -> None:
        folder = work / "packed"
        if not (folder / "manifest.json").is_file():
            raise PretrainingError(f"{folder} is missing or unfinished: run python -m pretraining.pack first.")
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = work / "tokenizer.json"
        if hashlib.sha256(tokenizer.read_bytes()).hexdigest() != self.manifest["configuration"]["tokenizer_sha256"]:
            raise PretrainingError(f"{tokenizer} is not the one that {folder} was packed with. Pack again into another --work.")
        self._device = device
        self._seed: int = self.manifest["configuration"]["seed"]
        self._phases = [_read(folder / f"{phase['name']}.bin", phase["blocks"], phase["length"]) for phase in self.manifest["phases"]]
        # torch indexes no unsigned 16-bit numbers; a hundred million ids of 32 bits are 0.4 GB.
        self._resident = [torch.from_numpy(blocks.astype(np.int32)).to(device) for blocks in self._phases]
        self._order: tuple[int, int, Tensor] = (-1, -1, torch.empty(0, dtype=torch.int64))
        self.held_out = {
            name: _read(folder / f"held_out_{name}.bin", count, HELD_OUT_LENGTH) for name, count in self.manifest["held_out"].items()
        }

    @property
    def lengths(self) -> list[int]:
        """Tokens of a block of each phase."""
        return [blocks.shape[1] - 1 for blocks in self._phases]

    @property
    def shares(self) -> list[float]:
        """Each phase's share of the tokens, by the mixture."""
        return [phase["share"] for phase in self.manifest["configuration"]["mixture"]["phases"]]

    def batches(self, phase: int, batch_tokens: int) -> int:
        """Whole batches in one pass over a phase; what is left over at its end is left out.

        Raises:
            PretrainingError: there is not even one.
        """
        number = len(self._phases[phase]) // self._size(phase, batch_tokens)
        if not number:
            raise PretrainingError(f"Phase {self.manifest['phases'][phase]['name']} has fewer tokens than one batch: pack more --tokens.")
        return number

    def batch(self, phase: int, number: int, batch_tokens: int) -> Tensor:
        """Batch ``number`` of a phase, ``[batch, length + 1]``; after the last one begins the next pass, in another order."""
        size, in_pass = self._size(phase, batch_tokens), self.batches(phase, batch_tokens)
        turn, at = divmod(number, in_pass)
        part = slice(at * size, (at + 1) * size)
        blocks = self._resident[phase]
        return (blocks[self._shuffled(phase, turn)[part]] if turn else blocks[part]).long()

    def _size(self, phase: int, batch_tokens: int) -> int:
        return batch_tokens // self.lengths[phase]

    def _shuffled(self, phase: int, turn: int) -> Tensor:
        """Order of one pass; it lies on the device, so that no step waits for a copy."""
        if self._order[:2] != (phase, turn):
            order = np.random.default_rng([self._seed, phase, turn]).permutation(len(self._phases[phase]))
            self._order = (phase, turn, torch.from_numpy(order).to(self._device))
        return self._order[2]


def _read(path: Path, blocks: int, length: int) -> np.ndarray[Any, Any]:
    ids = np.fromfile(path, dtype=np.uint16)
    if len(ids) != blocks * (length + 1):
        raise PretrainingError(f"{path} is cut short or changed: {len(ids):,} ids of {blocks * (length + 1):,}. Pack again.")
    return ids.reshape(blocks, length + 1)
