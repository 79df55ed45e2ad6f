"""Eight small supervised runs on one base on a GPU: steps at once, in turns, and one run after another.

Each run has its own rows, rank, rate and adapter; the floor is the one of a training process (``worker/floor.py``), the base is read
before the clock runs. Losses of the last epoch are compared. Whole jobs through the API, with a process's start, are
``bench_many_jobs --gpu``. Run: ``python -m benchmarks.bench_gpu_group [--shapes mini 0.6b] [--out FILE]``; needs CUDA. ``--smoke`` runs
on a CPU, so that the script cannot rot.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.bench_gpu_training import Log, build, spec_of
from benchmarks.gpu_rival import rows
from luthier.core.settings import PACKAGE_DIR
from luthier.models.device import prepare_device
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training.loop import Trainer
from luthier.worker.floor import Seat, SharedFloor

RUNS = 8
RANKS = (4, 8, 16, 32, 8, 16, 4, 8)
RATES = (1e-4, 5e-5, 2e-4, 1e-4, 3e-5, 1e-4, 3e-4, 2e-4)
BATCH, LONGEST = 8, 160
BOUND = 2.5


def _trainer(model: LanguageModel, number: int, data: Prepared, folder: Path, device: str) -> tuple[Trainer, Log, str]:
    steps, name, log = -(-len(data.examples) // BATCH), f"run{number}", Log()
    spec = replace(
        spec_of(data, device),
        batch_size=BATCH,
        lora_rank=RANKS[number],
        learning_rate=RATES[number],
        seed=number,
        n_epochs=2,
        steps_per_epoch=steps,
        total_steps=2 * steps,
    )
    # A resume state in every few steps of so short a run would be most of what is measured.
    state = folder / name
    return Trainer(model, spec, data, None, log, state, adapter=name, resume_share=1.0), log, name


def one_after_another(model: LanguageModel, parts: Sequence[Prepared], device: str) -> tuple[float, list[float]]:
    """Seconds, and the last loss of each."""
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for number, data in enumerate(parts):
            trainer, log, name = _trainer(model, number, data, Path(folder), device)
            trainer.run()
            losses.append(log.steps[-1].loss)
            model.remove_adapter(name)
        return time.perf_counter() - began, losses


def on_one_floor(model: LanguageModel, parts: Sequence[Prepared], device: str) -> tuple[float, list[float]]:
    """The same by a shared floor."""
    floor, losses = SharedFloor(), [0.0] * len(parts)
    with tempfile.TemporaryDirectory() as folder:

        def run(number: int) -> None:
            trainer, log, name = _trainer(model, number, parts[number], Path(folder), device)
            Seat(floor, name=name, project="p", weight=1.0, company=lambda: RUNS - 1).train(trainer, name)
            losses[number] = log.steps[-1].loss
            floor.call(name, lambda: model.remove_adapter(name))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(parts))]
        work = threading.Thread(target=floor.work, daemon=True)
        began = time.perf_counter()
        for thread in (work, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        floor.close()
        work.join()
    return seconds, losses


def measure(folder: Path, vocab_size: int, num_rows: int, device: str, repeats: int) -> dict[str, Any]:
    """All three, the fastest of so many times."""
    prepare_device(device)
    model = load_model(folder, device=device, dtype=torch.bfloat16 if device == "cuda" else torch.float32)
    model.flat = True
    whole = rows(RUNS * num_rows, vocab_size, LONGEST)
    parts = [replace(whole, examples=whole.examples[at * num_rows : (at + 1) * num_rows]) for at in range(RUNS)]
    one_after_another(model, [replace(part, examples=part.examples[: 2 * BATCH]) for part in parts], device)
    found: dict[str, Any] = {}
    best: dict[str, tuple[float, list[float]]] = {}
    for _ in range(repeats):
        for name, way in (("one after another", one_after_another), ("in turns", on_one_floor), ("at once", on_one_floor)):
            with patch("luthier.training.loop.may_join", lambda *_: False) if name == "in turns" else patch.dict({}):
                run = way(model, parts, device)
            print(name, f"{run[0]:.2f} s", flush=True)
            best[name] = min(best.get(name, run), run)
    alone = best["one after another"]
    for name, (seconds, losses) in best.items():
        apart = max(abs(a - b) / b for a, b in zip(losses, alone[1], strict=True))
        found[name] = {"seconds": round(seconds, 2), "times_faster": round(alone[0] / seconds, 2), "losses_apart": round(apart, 5)}
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", default=["mini", "0.6b"], choices=["mini", "0.6b"])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device = "cpu" if arguments.smoke else "cuda"
    results: dict[str, Any] = {"device": "cpu" if arguments.smoke else torch.cuda.get_device_name(), "runs": RUNS, "bound": BOUND}
    for shape in ["mini"] if arguments.smoke else arguments.shapes:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
            mini = shape == "mini"
            folder = PACKAGE_DIR / "models" / "builtin" / "luthier-mini" if mini else build(shape, Path(place) / "model", device)
            results[shape] = measure(folder, 6000 if mini else 150_000, BATCH if arguments.smoke else 16 * BATCH, device, arguments.repeats)
        print(shape, json.dumps(results[shape]), flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
