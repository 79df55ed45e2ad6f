"""Unsloth's side of the GPU benchmark of training: its model and its kernels under the loop that the other rivals have.

Unsloth changes transformers, peft and trl in place when it is imported, so this side is a process of its own, over a model folder that
`bench_gpu_training.build` made: ``python -m benchmarks.gpu_unsloth FOLDER --steps N --out FILE``. It needs CUDA and
``pip install unsloth``, and asks no network. Rows, batches, adapter, optimizer and clipping are the same as everywhere. Its settings:
rows end to end as its own trainer gives them by default, rows of like length side by side, shuffled rows padded, and the first two with
its gradient checkpointing. The compilers' work is done before the first step, so that no step pays for it. ``FILE`` is written after
every setting: who stops this process keeps what was measured. Does not compare; called by `bench_gpu_training`.
"""

import argparse
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

WARM_BATCHES = 5
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SETTINGS: dict[str, tuple[bool, bool, bool]] = {
    "padding-free": (True, True, False),
    "like lengths": (False, True, False),
    "padding-free checkpointing": (True, True, True),
    "padded": (False, False, False),
    "checkpointing": (False, True, True),
}
"""Of each: rows end to end, rows of like length in a step, gradient checkpointing."""


def end_to_end(data: Any, part: list[int], device: str) -> dict[str, Any]:
    """Rows one after another in one sequence, (1, tokens), as Unsloth's trainer hands them to the model: positions begin anew in each
    row, and the lengths, which stay on the CPU, keep attention and loss within them."""
    import torch

    rows = [data.examples[index].rendered for index in part]
    ids = np.concatenate([row.ids_T for row in rows])
    labels = np.where(np.concatenate([row.weights_T for row in rows]) > 0, ids, -100)
    positions = np.concatenate([np.arange(len(row.ids_T)) for row in rows])
    given = {"input_ids": ids, "labels": labels, "position_ids": positions}
    return {
        **{name: torch.from_numpy(value.astype(np.int64))[None].to(device) for name, value in given.items()},
        "packed_seq_lengths": torch.tensor([len(row.ids_T) for row in rows], dtype=torch.int32),
    }


def quiet_surroundings(place: Path) -> None:
    """Before Unsloth is imported: no network, its generated code in a temporary folder."""
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", UNSLOTH_DISABLE_STATISTICS="1", HF_DATASETS_OFFLINE="1")
    os.environ["UNSLOTH_COMPILE_LOCATION"] = str(place / "unsloth_compiled_cache")


def adapted(unsloth: Any, folder: Path, *, checkpointing: bool) -> Any:
    """The base read anew with a fresh adapter, ready to train."""
    import torch

    from benchmarks.gpu_rival import ALPHA, RANK, SEED

    language, mode = unsloth.FastLanguageModel, "unsloth" if checkpointing else False
    base, _ = language.from_pretrained(
        model_name=str(folder),
        max_seq_length=4096,
        dtype=torch.bfloat16,
        load_in_4bit=False,
        local_files_only=True,
        use_gradient_checkpointing=mode,
    )
    model = language.get_peft_model(
        base,
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=0,
        bias="none",
        target_modules=TARGETS,
        use_gradient_checkpointing=mode,
        random_state=SEED,
    )
    language.for_training(model, use_gradient_checkpointing=mode)
    return model


def warm_up(model: Any, data: Any, device: str, *, micro: int, like_lengths: bool, inputs: Any) -> float:
    """Seconds of some batches of all lengths, forward and backward, whose gradients are thrown away."""
    from benchmarks.gpu_rival import step_batches, summed_loss

    began = time.perf_counter()
    batches = sorted(step_batches(data, like_lengths=like_lengths), key=lambda rows: max(data.examples[i].num_tokens for i in rows))
    for index in sorted(set(np.linspace(0, len(batches) - 1, WARM_BATCHES).astype(int).tolist()), reverse=True):
        summed_loss(model, data, batches[index], device, micro=micro, inputs=inputs)
        model.zero_grad(set_to_none=True)
    return round(time.perf_counter() - began, 1)


def fitting(run: Callable[[int], dict[str, Any]], largest: int, clean: Callable[[], None]) -> dict[str, Any]:
    """``run`` by the largest micro-batch that fits, halved from ``largest`` on."""
    import torch

    micro = largest
    while micro:
        try:
            return {"micro_batch": micro, **run(micro)}
        except torch.OutOfMemoryError:
            micro //= 2
        clean()
    return {"out_of_memory": True}


def attention_of() -> str:
    """Which library computes Unsloth's attention here."""
    dispatch = importlib.import_module("unsloth.utils.attention_dispatch")
    return str(dispatch.select_attention_backend(use_varlen=True))


def measured(unsloth: Any, folder: Path, data: Any, name: str) -> dict[str, Any]:
    """One setting."""
    from benchmarks.gpu_rival import BATCH, clean, padded, rival_steps

    joined, like_lengths, checkpointing = SETTINGS[name]
    inputs = end_to_end if joined else padded

    def run(micro: int) -> dict[str, Any]:
        model = adapted(unsloth, folder, checkpointing=checkpointing)
        warm = warm_up(model, data, "cuda", micro=micro, like_lengths=like_lengths, inputs=inputs)
        return {"warm_up_seconds": warm, **rival_steps(model, data, "cuda", micro=micro, like_lengths=like_lengths, inputs=inputs)}

    return fitting(run, BATCH, lambda: clean("cuda"))


def side(folder: Path, num_steps: int, device: str, limit: float) -> dict[str, dict[str, Any]]:
    """Figures of every setting by "unsloth NAME", measured by a process that is stopped after ``limit`` seconds; those that it had
    written by then count. Without Unsloth or without a card a single entry says so."""
    if importlib.util.find_spec("unsloth") is None:
        return {"unsloth": {"skipped": "not installed"}}
    if device == "cpu":
        return {"unsloth": {"skipped": "needs CUDA"}}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "unsloth.json"
        words = [sys.executable, "-m", "benchmarks.gpu_unsloth", str(folder), "--steps", str(num_steps), "--out", str(out)]
        # A session of its own, so that the compilers' helpers end with it.
        process = subprocess.Popen(words, start_new_session=True)
        try:
            ended = f"exit status {process.wait(limit)}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {limit:g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        found = json.loads(out.read_text()) if out.exists() else {}
    missing = {name: {"skipped": ended} for name in SETTINGS if name not in found}
    return {f"unsloth {name}": figures for name, figures in (found | missing).items()}


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    return parser.parse_args(words)


def main() -> None:
    """All settings that are asked for, each written when it is there. One that fails does not take the others with it."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as place:
        quiet_surroundings(Path(place))
        unsloth: Any = importlib.import_module("unsloth")  # before transformers and peft, which it changes

        from benchmarks.gpu_rival import BATCH, clean, rows

        data = rows(arguments.steps * BATCH, 150_000, 2048)
        found: dict[str, Any] = {}
        for name in arguments.settings:
            clean("cuda")
            try:
                found[name] = measured(unsloth, arguments.folder, data, name)
            except Exception as error:  # noqa: BLE001 - whatever the other library raises, its other settings count
                found[name] = {"failed": f"{type(error).__name__}: {error}"[:600]}
            found[name] |= {"version": version("unsloth"), "attention": attention_of()}
            print("unsloth", name, json.dumps(found[name]), flush=True)
            arguments.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
