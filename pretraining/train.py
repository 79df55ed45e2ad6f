"""Step 3: training: warm-up, stable, decay; resumable to the bit; the held-out loss of every part is logged.

The same script trains on a CPU and on CUDA. A resume state holds weights, optimizers and the step; data order follows from seed and
step. States lie in ``WORK/state``, the log in ``WORK/log.jsonl``. ``--set learning_rate=0.004`` changes one number of
the recipe (for measured small runs). ``--recipe cpu`` or ``gpu``: ``data/recipe_*.json``.
Run: ``python -m pretraining.train --work DIR``.
"""

import argparse
import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.training.memory import keep_freed_memory
from pretraining import corpus
from pretraining.errors import PretrainingError, run_script
from pretraining.network import FusedLoss, Network, Shape, chunk_gradient
from pretraining.optimizers import Muon
from pretraining.pack import HELD_OUT_LENGTH
from pretraining.record import write_record
from pretraining.tokenizer import END_OF_TEXT

_LOG_STEPS = 20
_HELD_OUT_STEPS = 300
_HELD_OUT_BATCH = 16
_SAVE_SECONDS = 300.0
_ARITHMETIC = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Blocks:
    """The packed blocks of all phases in order, shuffled within each by ``pack.py``."""

    def __init__(self, work: Path) -> None:
        folder = work / "packed"
        if not (folder / "manifest.json").is_file():
            raise PretrainingError(f"{folder} is missing or unfinished: run python -m pretraining.pack first.")
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        tokenizer = work / "tokenizer.json"
        if hashlib.sha256(tokenizer.read_bytes()).hexdigest() != self.manifest["configuration"]["tokenizer_sha256"]:
            raise PretrainingError(f"{tokenizer} is not the one that {folder} was packed with. Pack again into another --work.")
        self._phases = [self._read(folder / f"{phase['name']}.bin", phase["blocks"], phase["length"]) for phase in self.manifest["phases"]]
        self.held_out = {
            name: self._read(folder / f"held_out_{name}.bin", count, HELD_OUT_LENGTH) for name, count in self.manifest["held_out"].items()
        }

    @staticmethod
    def _read(path: Path, blocks: int, length: int) -> np.ndarray[Any, Any]:
        ids = np.fromfile(path, dtype=np.uint16)
        if len(ids) != blocks * (length + 1):
            raise PretrainingError(f"{path} is cut short or changed: {len(ids):,} ids of {blocks * (length + 1):,}. Pack again.")
        return ids.reshape(blocks, length + 1)

    def steps(self, batch_tokens: int) -> list[tuple[int, slice]]:
        """(phase, its blocks) of every step: batches of equal tokens; what is left over at a phase's end is left out."""
        out = []
        for i, blocks in enumerate(self._phases):
            size = batch_tokens // (blocks.shape[1] - 1)
            out += [(i, slice(start, start + size)) for start in range(0, len(blocks) - size + 1, size)]
        return out

    def batch(self, phase: int, part: slice, device: torch.device) -> Tensor:
        """The blocks of one step, ``[batch, length + 1]``."""
        return torch.from_numpy(self._phases[phase][part].astype(np.int64)).to(device)


class Training:
    """One run over all blocks."""

    def __init__(self, work: Path, recipe: dict[str, Any], device: torch.device, *, compile_network: bool = True) -> None:
        self.work, self.device = work, device
        self.recipe = recipe = {**recipe, "arithmetic": arithmetic_for(recipe["arithmetic"], device)}
        self.blocks = Blocks(work)
        self.shape = Shape(**recipe["shape"])
        self.network = Network(self.shape, recipe["seed"], _ARITHMETIC[recipe["arithmetic"]]).to(device)
        self._steps = self.blocks.steps(recipe["batch_tokens"])
        self.num_steps = len(self._steps)
        self.optimizers = _optimizers(self.network, recipe)
        self.step = 0
        self.seconds = 0.0
        self.stopping = False
        self._forward, self._chunk = compiled(self.network) if compile_network else (self.network, chunk_gradient)
        self._configuration = {"recipe": recipe, "packed": self.blocks.manifest["configuration"]}

    def run(self) -> None:
        """Train to the end, or until a signal asked to stop.

        Raises:
            PretrainingError: the work folder holds a state of another configuration; it is left as it is.
        """
        self._resume()
        began, before, saved, losses = time.monotonic(), self.seconds, time.monotonic(), []
        while self.step < self.num_steps and not self.stopping:
            losses.append(self._train_step())
            self.step += 1
            self.seconds = before + time.monotonic() - began
            if self.step % _LOG_STEPS == 0 or self.step == self.num_steps:
                self._log({"loss": float(torch.stack(losses).mean())})
                losses = []
            if self.step % _HELD_OUT_STEPS == 0 or self.step == self.num_steps:
                self._log({"held_out": self.held_out()})
            if time.monotonic() - saved > _SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.step == self.num_steps:
            write_record(self.work, device=self.device.type, recipe=self.recipe, manifest=self.blocks.manifest)
        print("train: " + ("done" if self.step == self.num_steps else f"stopped at step {self.step}; the same command goes on"), flush=True)

    def loss(self, ids_BT1: Tensor) -> Tensor:
        """Mean loss of one batch; what follows an end mark is another row's first word, which nobody could know."""
        inputs, targets = ids_BT1[:, :-1].contiguous(), ids_BT1[:, 1:].reshape(-1)
        hidden = self._forward(inputs)
        counted = (inputs.reshape(-1) != END_OF_TEXT).float()
        loss: Tensor = FusedLoss.apply(hidden.reshape(len(targets), -1), self.network.embedding, targets, counted, self._chunk)  # type: ignore[assignment]
        return loss

    def held_out(self) -> dict[str, float]:
        """Mean loss of every held-out part, nats per token."""
        out = {}
        with torch.no_grad():
            for name, blocks in self.blocks.held_out.items():
                whole = torch.from_numpy(blocks.astype(np.int64)).to(self.device)
                losses = [(float(self.loss(part)), len(part)) for part in whole.split(_HELD_OUT_BATCH)]
                out[name] = round(sum(loss * n for loss, n in losses) / sum(n for _, n in losses), 4)
        return out

    def _train_step(self) -> Tensor:
        share = rate_share(self.step, self.num_steps, self.recipe)
        loss = self.loss(self.blocks.batch(*self._steps[self.step], self.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe["clip"])
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * share
            optimizer.step()
            optimizer.zero_grad()
        return loss.detach()

    def _log(self, values: dict[str, Any]) -> None:
        tokens = self.step * self.recipe["batch_tokens"]
        line = {"step": self.step, "of": self.num_steps, "tokens": tokens, "seconds": round(self.seconds, 1), **values}
        with (self.work / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        left = self.seconds / self.step * (self.num_steps - self.step)
        print(
            f"{json.dumps(values)}  step {self.step}/{self.num_steps}  {tokens / self.seconds:,.0f} tokens/s  {left / 60:.0f} min left",
            flush=True,
        )

    def save(self) -> None:
        """Write the resume state beside the old one, then put it in its place."""
        folder = self.work / "state"
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "configuration": self._configuration,
            "shape": asdict(self.shape),
            "step": self.step,
            "num_steps": self.num_steps,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, folder / "state.part")
        (folder / "state.part").replace(folder / "state.pt")

    def _resume(self) -> None:
        path = self.work / "state" / "state.pt"
        if not path.is_file():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["configuration"] != self._configuration:
            raise PretrainingError(
                f"{path} belongs to a run with another configuration ({_differences(state['configuration'], self._configuration)}). "
                "Give another --work, or delete that folder."
            )
        self.network.load_state_dict(state["network"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.step, self.seconds = state["step"], state["seconds"]
        print(f"train: goes on at step {self.step} of {self.num_steps}", flush=True)


def arithmetic_for(wanted: str, device: torch.device) -> str:
    """``bfloat16`` or ``float32``; ``auto`` is bf16 where it is the faster one: on CUDA, and on CPUs with instructions for it.

    A CPU without them emulates bf16 forty times slower than it computes in fp32, so one product of each is timed.

    Raises:
        PretrainingError: neither of the three words.
    """
    if wanted != "auto":
        if wanted not in _ARITHMETIC:
            raise PretrainingError(f"The recipe's arithmetic is {wanted!r}; it can be auto, {' or '.join(_ARITHMETIC)}.")
        return wanted
    if device.type == "cuda":
        return "bfloat16"
    seconds = {}
    for name, dtype in _ARITHMETIC.items():
        rows, matrix = torch.ones(512, 256, dtype=dtype), torch.ones(256, 704, dtype=dtype)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            _ = rows @ matrix
            times.append(time.perf_counter() - began)
        seconds[name] = min(times)
    return min(seconds, key=seconds.__getitem__)


def _differences(there: dict[str, Any], here: dict[str, Any], above: str = "") -> str:
    """The numbers in which two configurations differ, by name: ``recipe.seed: 1 there, 2 here``."""
    found = []
    for key in sorted(there.keys() | here.keys()):
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(_differences(old, new, f"{above}{key}."))
        elif old != new:
            found.append(f"{above}{key}: {old} there, {new} here")
    return "; ".join(filter(None, found))


def compiled(network: Network) -> tuple[Callable[[Tensor], Tensor], Callable[..., tuple[Tensor, Tensor]]]:
    """The network and the loss's inner part through torch.compile; every shape is fixed, so each compiles once or twice."""
    if shutil.which("c++") is None and not torch.cuda.is_available():
        print("train: no C++ compiler (c++) here, so nothing is compiled: about half as fast", flush=True)
        return network, chunk_gradient
    return torch.compile(network), torch.compile(chunk_gradient)  # type: ignore[return-value]


def _optimizers(network: Network, recipe: dict[str, Any]) -> list[torch.optim.Optimizer]:
    matrices = [p for layer in network.layers for p in layer.parameters() if p.ndim == 2]
    norms = [p for p in network.parameters() if p.ndim == 1]
    rate, decay, arithmetic = recipe["learning_rate"], recipe["weight_decay"], _ARITHMETIC[recipe["arithmetic"]]
    groups: list[dict[str, Any]] = [
        {"params": [network.embedding], "lr": recipe["embedding_rate"], "weight_decay": decay},
        {"params": norms, "lr": rate, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if recipe["optimizer"] == "muon":
        optimizers.append(Muon(matrices, lr=rate, momentum=recipe["momentum"], weight_decay=decay, arithmetic=arithmetic))
    else:
        groups.append({"params": matrices, "lr": rate, "weight_decay": decay})
    optimizers.append(torch.optim.AdamW(groups, betas=tuple(recipe["betas"]), eps=1e-8, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def rate_share(step: int, num_steps: int, recipe: dict[str, Any]) -> float:
    """Share of the peak rate at a step: linear warm-up, flat, linear decay (Hu et al. 2024, "WSD")."""
    warmup = recipe["warmup_steps"]
    decay_from = num_steps * (1 - recipe["decay_share"])
    if step < warmup:
        return (step + 1) / warmup
    if step < decay_from:
        return 1.0
    left = (num_steps - step) / (num_steps - decay_from)
    return recipe["final_rate"] + (1 - recipe["final_rate"]) * left


def changed_recipe(name: str, changes: list[str]) -> dict[str, Any]:
    """``data/recipe_NAME.json`` with ``name=value`` changes; ``shape.hidden_size=320`` reaches inside.

    Raises:
        PretrainingError: no such recipe or number.
    """
    path = corpus.DATA / f"recipe_{name}.json"
    if not path.is_file():
        raise PretrainingError(f"There is no recipe {name!r}: {path} is missing.")
    recipe = json.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        number, _, value = change.partition("=")
        *parents, last = number.split(".")
        where = recipe
        for key in parents:
            where = where.get(key, {})
        if last not in where:
            raise PretrainingError(f"{path.name} has no {number!r}.")
        where[last] = json.loads(value) if value[:1] in "0123456789-[{." else value
    return recipe


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--recipe", default="cpu", help="cpu or gpu: batch and rates for either")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    keep_freed_memory()
    recipe = changed_recipe(arguments.recipe, arguments.set)
    training = Training(arguments.work, recipe, torch.device(arguments.device))

    def stop(*_: Any) -> None:
        training.stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    training.run()


if __name__ == "__main__":
    run_script(main)
