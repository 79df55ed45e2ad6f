"""Does ``torch.compile`` pay back within a job on a CPU? Our trainer's steps as they are and in three compiled forms.

Forms: the hand-written block as it is; its small operators (norms, rotation and their gradients) compiled; its forward and backward
compiled whole; and the blocks of the way of GPUs (rows end to end, autograd), plain and compiled. Each is a process of its own over the
model, rows and spec of ``benchmarks/trl_sides.py``. Printed: seconds of the first steps, in which compiling happens, the median of the
later ones, the last loss, and after how many steps a form has paid back.

Run: ``python -m experiments.compiled_cpu [--shape 15m|135m] [--method lora|full] [--steps N]``; needs g++.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.trl_sides import BATCH, SHAPES, _Hooks, build, spec_for, talks
from benchmarks.trl_sides import Meter as Clock
from luthier.core.specs import TuningMethod
from luthier.models import decoder, decoder_layer
from luthier.models.device import prepare_device, training_placement
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.trace.events import StepDone
from luthier.training.loop import Trainer

WARM = 10


def as_it_is(_model: LanguageModel) -> None:
    """The hand-written gradient."""


def small_operators(_model: LanguageModel) -> None:
    """Norms and rotation of the hand-written block."""
    for name in ("norm", "_norm_back", "rotate", "_rotate_back"):
        setattr(decoder_layer, name, torch.compile(getattr(decoder_layer, name), dynamic=True))


def whole_block(_model: LanguageModel) -> None:
    """Its forward and its backward."""
    forward = torch.compile(decoder_layer.block_forward, dynamic=True)
    decoder_layer.block_forward = decoder.block_forward = forward
    decoder_layer._block_back = torch.compile(decoder_layer._block_back, dynamic=True)


def end_to_end(model: LanguageModel) -> None:
    """As on a GPU, not compiled."""
    model.flat = True


def end_to_end_compiled(model: LanguageModel) -> None:
    """As on a GPU."""
    model.flat = model.compiled = True


FORMS: dict[str, Callable[[LanguageModel], None]] = {
    form.__name__: form for form in (as_it_is, small_operators, whole_block, end_to_end, end_to_end_compiled)
}


class _Losses(_Hooks):
    """A clock that keeps the last loss."""

    loss = math.nan

    def step_done(self, report: StepDone) -> None:
        """Also its loss."""
        super().step_done(report)
        self.loss = report.loss


def one(folder: Path, form: str, method: TuningMethod, steps: int) -> dict[str, Any]:
    """Run one form here."""
    placement = training_placement("cpu", "auto", method)
    prepare_device("cpu", placement.precision)
    data = talks(steps * BATCH, folder)
    model, clock = load_model(folder, dtype=placement.dtype), Clock()
    FORMS[form](model)
    spec = spec_for(method, folder, steps=steps, threads=torch.get_num_threads(), precision=placement.precision)
    start = folder / "start" if method is TuningMethod.LORA else None
    hooks = _Losses(clock, data)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as state:
        Trainer(model, spec, data, None, hooks, Path(state), parent_adapter=start, resume_share=1.0, resume_seconds=math.inf).run()
    times = [b[0] - a[0] for a, b in zip(clock.marks, clock.marks[1:], strict=False)]
    return {
        "precision": placement.precision,
        "seconds": round(time.perf_counter() - began, 2),
        "warm_seconds": round(sum(times[:WARM]), 2),
        "median_ms": round(1000 * statistics.median(times[WARM:]), 1),
        "loss": round(hooks.loss, 5),
    }


def main() -> None:
    """Each form in its process, one after another."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=list(SHAPES), default="15m")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "FORM"))
    arguments = parser.parse_args()
    if arguments.one:
        folder, form = arguments.one
        print(json.dumps(one(Path(folder), form, TuningMethod(arguments.method), arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = str(build(arguments.shape, Path(place) / "model"))
        asked = ["--method", arguments.method, "--steps", str(arguments.steps)]
        usual: dict[str, Any] = {}
        for form in arguments.forms:
            command = [sys.executable, "-m", "experiments.compiled_cpu", "--one", folder, form, *asked]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(form, "failed:", done.stderr.strip().splitlines()[-1][:300], flush=True)
                continue
            found = json.loads(done.stdout.strip().splitlines()[-1])
            usual = usual or found
            saved = (usual["median_ms"] - found["median_ms"]) / 1000
            extra = found["warm_seconds"] - usual["warm_seconds"]
            pays = "" if found is usual else f"; pays back after {extra / saved:.0f} steps" if saved > 0 else "; never pays back"
            print(arguments.shape, arguments.method, form, json.dumps(found) + pays, flush=True)


if __name__ == "__main__":
    main()
