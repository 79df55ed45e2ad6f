"""DPO on a GPU: our trainer beside peft + transformers, on the shape of Qwen3-0.6B with random weights.

Pairs, batches, adapter, optimizer and loss are the same on both sides, and the losses of the same steps are compared. Ours measures the
reference's log-probabilities once, before the first step, and its time is in the figures; the rival asks the base with its adapter
switched off in every step, as is usual for one epoch. Run: ``python -m benchmarks.bench_gpu_preference [--out FILE]``; needs CUDA.
``--smoke`` runs both sides on a tiny shape on a CPU, so that the script cannot rot.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.bench_gpu_training import Log, Rival, build, spec_of
from benchmarks.gpu_rival import BATCH, SEED, optimizer_of, rows
from luthier.core.specs import ObjectiveKind
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.device import prepare_device
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training.loop import Trainer

BETA = 0.1
PAIRS = BATCH // 2
"""Of a step: as many rows as the supervised benchmark has."""
ANSWER_SHARE = 0.4


def pairs(count: int, vocab_size: int, longest: int) -> Prepared:
    """Two answers of like length to each prompt."""
    draw, examples = np.random.default_rng(SEED + 1), []
    for preferred in rows(count, vocab_size, longest).examples:
        ids = preferred.rendered.ids_T
        answer = int(np.count_nonzero(preferred.rendered.weights_T))
        other = ids.copy()
        other[-answer:] = draw.integers(10, vocab_size, size=answer)
        examples.append(preferred)
        examples.append(TokenizedExample(source=preferred.source, rendered=Rendered(ids_T=other, weights_T=preferred.rendered.weights_T)))
    return Prepared(
        examples=tuple(examples),
        num_tokens=sum(e.num_tokens for e in examples),
        num_trained=sum(e.rendered.num_trained for e in examples),
        num_truncated=0,
        num_rows=count,
        rows_per_example=2,
    )


def ours(folder: Path, data: Prepared, device: str) -> dict[str, Any]:
    """Our trainer from its start to its end, but for reading the base."""
    prepare_device(device)
    model = load_model(folder, device=device, dtype=torch.bfloat16)
    steps = -(-data.num_examples // PAIRS)
    spec = replace(spec_of(data, device), objective=ObjectiveKind.DPO, beta=BETA, batch_size=PAIRS)
    spec = replace(spec, steps_per_epoch=steps, total_steps=steps)
    log = Log()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as state:
        Trainer(model, spec, data, None, log, Path(state)).run()
    return _figures(time.perf_counter() - began, data, [s.loss for s in log.steps], sum(s.seconds for s in log.steps))


def _figures(seconds: float, data: Prepared, losses: list[float], in_steps: float) -> dict[str, Any]:
    return {
        "tokens_per_second": round(data.num_tokens / seconds),
        "seconds": round(seconds, 2),
        "in_steps": round(in_steps, 2),
        "losses": [round(x, 4) for x in (*losses[:3], losses[-1])],
    }


def _answers(model: Any, data: Prepared, part: list[int], device: str) -> torch.Tensor:
    """(rows,) log-probability of each answer."""
    made = data.batch(part)
    ids = torch.from_numpy(made.ids_BT).to(device)
    mask = (torch.arange(ids.shape[1])[None] < torch.from_numpy(made.lengths_B)[:, None]).long().to(device)
    with torch.autocast(device, dtype=torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits
    trained = torch.from_numpy(made.weights_BT[:, 1:] > 0).to(device)
    # Log-probabilities of the true tokens alone, row by row: the whole (B, T, V) of log-softmax does not fit beside the logits.
    chosen = [
        -F.cross_entropy(row[:-1].float(), targets[1:], reduction="none")[kept].sum()
        for row, targets, kept in zip(logits, ids, trained, strict=True)
    ]
    return torch.stack(chosen)


def rival_steps(model: Any, data: Prepared, device: str, micro: int) -> dict[str, Any]:
    """The same steps by peft over transformers; ``micro`` counts rows."""
    trainable, optimizer = optimizer_of(model)
    losses: list[float] = []
    began = time.perf_counter()
    for batch in data.epoch_batches(batch_size=PAIRS, seed=SEED, epoch=1):
        size, total = max(2, micro // 2 * 2), torch.zeros((), device=device)
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            with torch.no_grad(), model.disable_adapter():
                reference = _answers(model, data, part, device)
            rewards = BETA * (_answers(model, data, part, device) - reference).view(-1, 2)
            loss = -F.logsigmoid(rewards[:, 0] - rewards[:, 1]).sum() / (len(batch) // 2)
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(total))
    seconds = time.perf_counter() - began
    return _figures(seconds, data, losses, seconds)


def measure(shape: str, num_steps: int, device: str) -> dict[str, Any]:
    """Both sides."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        folder = build(shape, Path(place) / "model", device)
        data = pairs(num_steps * PAIRS, 1000 if shape == "smoke" else 150_000, 200 if shape == "smoke" else 2048)
        warm = pairs(2 * PAIRS, 1000 if shape == "smoke" else 150_000, 200)
        ours(folder, warm, device)
        found = {"ours": ours(folder, data, device)}
        rival = Rival(folder, device)
        rival.fitting(lambda model, micro: rival_steps(model, warm, device, micro), checkpointing=False)
        found["peft"] = rival.fitting(lambda model, micro: rival_steps(model, data, device, micro), checkpointing=False)
    if "seconds" in found["peft"]:
        found["ours"]["ratio"] = round(found["ours"]["tokens_per_second"] / found["peft"]["tokens_per_second"], 2)
    return found


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    device, shape = ("cpu", "smoke") if arguments.smoke else ("cuda", "0.6b")
    name = "cpu" if arguments.smoke else torch.cuda.get_device_name()
    results = {
        "device": name,
        "torch": torch.__version__,
        "pairs": PAIRS,
        **measure(shape, 4 if arguments.smoke else arguments.steps, device),
    }
    print(json.dumps(results, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
