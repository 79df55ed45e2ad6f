"""Step 3: training: warm-up, stable, decay; resumable to the bit; the held-out loss of every part is logged.

The same script trains on a CPU and on CUDA. A resume state holds weights, optimizers and the step; data order follows from seed and
step. States lie in ``WORK/state``, the log in ``WORK/log.jsonl``. ``--set learning_rate=0.004`` changes one number of
the recipe (for measured small runs). ``--recipe cpu`` or ``gpu``: ``data/recipe_*.json``.
How long: one pass over what was packed; ``--steps N``: N steps, with as many passes as that takes; ``--seconds S``: as many steps as
fit, so that the decay ends with the time (their number depends on the machine's speed and is in the record; ``--steps`` repeats it).
Run: ``python -m pretraining.train --work DIR``.
"""

import argparse
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
from pretraining.blocks import Blocks
from pretraining.errors import PretrainingError, run_script
from pretraining.network import FusedLoss, Network, Shape, chunk_gradient
from pretraining.optimizers import Muon
from pretraining.plan import Clock, Plan, shared_steps
from pretraining.record import keep_weights, write_record
from pretraining.tokenizer import END_OF_TEXT

_LOG_STEPS = 20
_HELD_OUT_STEPS = 300
_HELD_OUT_BATCH = 16
_SAVE_SECONDS = 300.0
_TIMED_STEPS = 8
_ARITHMETIC = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Training:
    """One run; ``seconds`` or ``steps`` say how long, else one pass over all blocks."""

    def __init__(
        self,
        work: Path,
        recipe: dict[str, Any],
        device: torch.device,
        *,
        compile_network: bool = True,
        seconds: float | None = None,
        steps: int | None = None,
    ) -> None:
        self.work, self.device, self.budget = work, device, seconds
        self.recipe = recipe = {**recipe, "arithmetic": arithmetic_for(recipe["arithmetic"], device)}
        self.blocks = Blocks(work, device)
        self.shape = Shape(**recipe["shape"])
        self.network = Network(self.shape, recipe["seed"], _ARITHMETIC[recipe["arithmetic"]], recipe["dropout"]).to(device)
        passes = [self.blocks.batches(phase, recipe["batch_tokens"]) for phase in range(len(self.blocks.lengths))]
        self.plan = Plan(passes) if steps is None else shared_steps(steps, self.blocks.shares)
        self.pace: list[float] = []
        self.optimizers = _optimizers(self.network, recipe)
        self.seconds = 0.0
        self.best = float("inf")
        self.stopping = False
        self._forward, self._chunk = compiled(self.network, device) if compile_network else (self.network, chunk_gradient)
        self._configuration = {
            "recipe": recipe,
            "packed": self.blocks.manifest["configuration"],
            "steps": steps,
            "seconds": seconds,
        }

    @property
    def step(self) -> int:
        """Steps done."""
        return self.plan.step

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, as far as they are known."""
        return self.plan.total

    def run(self) -> None:
        """Train to the end, or until a signal asked to stop.

        Raises:
            PretrainingError: the work folder holds a state of another configuration; it is left as it is.
        """
        self._resume()
        if self.budget is not None:
            self._time_phases()
        began, before, saved, losses = time.monotonic(), self.seconds, time.monotonic(), []
        clock = Clock(self.step, self.seconds, self.budget, _HELD_OUT_STEPS)
        while self.step < self.num_steps and not self.stopping:
            phase = self.plan.phase
            losses.append(self._train_step())
            self.plan.advance()
            self.seconds = before + time.monotonic() - began
            if self.step % _LOG_STEPS == 0 or self.step == self.num_steps:
                self._log({"loss": float(torch.stack(losses).mean())})
                losses = []
            if clock.fits(self.step, self.seconds) and self.budget is not None:
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                self.seconds = before + time.monotonic() - began
                self.pace = clock.pace(self.pace, phase, self.step, self.seconds)
                self.plan.fit(self.budget - self.seconds, self.pace)
            if clock.measures(self.step, self.seconds) or self.step == self.num_steps:
                self._measure()
            if time.monotonic() - saved > _SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        if self.step == self.num_steps:
            write_record(
                self.work, device=self.device.type, recipe=self.recipe, manifest=self.blocks.manifest, steps_of_phase=self.plan.done
            )
        print("train: " + ("done" if self.step == self.num_steps else f"stopped at step {self.step}; the same command goes on"), flush=True)

    def _time_phases(self) -> None:
        """Compile for the block length of every phase and time forward and back; the first fit corrects it by real steps."""
        self.pace = []
        for phase in range(len(self.plan.left)):
            for _ in range(2):
                self.loss(self._batch(phase, 0)).backward()
            began = _now(self.device)
            for _ in range(_TIMED_STEPS):
                self.loss(self._batch(phase, 0)).backward()
            self.pace.append((_now(self.device) - began) / _TIMED_STEPS)
        self.network.zero_grad(set_to_none=True)
        assert self.budget is not None
        if self.step == 0:
            shares = self.blocks.shares
            self.plan = shared_steps(max(1, round(self.budget / sum(s * p for s, p in zip(shares, self.pace, strict=True)))), shares)
        print(f"train: seconds a step by phase {[round(pace, 4) for pace in self.pace]}, about {self.num_steps} steps", flush=True)

    def _measure(self) -> None:
        losses = self.held_out()
        self._log({"held_out": losses})
        mean = sum(losses.values()) / len(losses)
        if self.recipe["keep_best"] and mean < self.best:
            self.best = mean
            keep_weights(self.work, self.network.state_dict(), self.shape, step=self.step, held_out=losses, manifest=self.blocks.manifest)

    def _batch(self, phase: int, number: int) -> Tensor:
        return self.blocks.batch(phase, number, self.recipe["batch_tokens"])

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
        self.network.eval()
        # On CUDA these few blocks are not worth another compilation.
        with torch.no_grad(), torch.compiler.set_stance("force_eager" if self.device.type == "cuda" else "default"):
            for name, blocks in self.blocks.held_out.items():
                whole = torch.from_numpy(blocks.astype(np.int64)).to(self.device)
                losses = [(float(self.loss(part)), len(part)) for part in whole.split(_HELD_OUT_BATCH)]
                out[name] = round(sum(loss * n for loss, n in losses) / sum(n for _, n in losses), 4)
        self.network.train()
        return out

    def _train_step(self) -> Tensor:
        share = rate_share(self.step, self.num_steps, self.recipe)
        if self.recipe["dropout"]:
            torch.manual_seed(self.recipe["seed"] + self.step)  # so that a resumed run drops the same
        phase = self.plan.phase
        loss = self.loss(self._batch(phase, self.plan.done[phase]))
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
            "plan": {"left": self.plan.left, "done": self.plan.done},
            "best": self.best,
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
        self.plan, self.seconds, self.best = Plan(**state["plan"]), state["seconds"], state["best"]
        print(f"train: goes on at step {self.step} of {self.num_steps}", flush=True)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


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


def compiled(network: Network, device: torch.device) -> tuple[Callable[[Tensor], Tensor], Callable[..., tuple[Tensor, Tensor]]]:
    """The network and the loss's inner part through torch.compile; every shape is fixed, so each compiles once or twice.

    On CUDA the layers are compiled one by one: they share one result, and a GPU's minutes are dearer than a few more kernels.
    """
    if device.type == "cuda":
        for layer in network.layers:
            layer.compile(dynamic=False)
        return network, torch.compile(chunk_gradient, dynamic=False)  # type: ignore[return-value]
    if shutil.which("c++") is None:
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
    parser.add_argument("--seconds", type=float, help="time budget of the training itself, compilation not counted")
    parser.add_argument("--steps", type=int, help="so many steps, shared among the phases by the mixture")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    keep_freed_memory()
    recipe = changed_recipe(arguments.recipe, arguments.set)
    if arguments.steps is not None and arguments.seconds is not None:
        raise PretrainingError("Give --steps or --seconds, not both.")
    training = Training(
        arguments.work,
        recipe,
        torch.device(arguments.device),
        compile_network=not arguments.eager,
        seconds=arguments.seconds,
        steps=arguments.steps,
    )

    def stop(*_: Any) -> None:
        training.stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    training.run()


if __name__ == "__main__":
    run_script(main)
