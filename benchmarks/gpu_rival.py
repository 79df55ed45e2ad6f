"""What the sides of the GPU benchmarks share: the rows, the plain training loop of a rival, and how a run is summed up.

Knows no library of a rival: the model is handed in, and so is the form of its batches, padded or end to end. Does not build models
and does not start runs. Called by `bench_gpu_training`, `gpu_unsloth` (in a process of its own), and `bench_gpu_preference` and
`bench_gpu_group` for the rows.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.preprocessing.stage import Prepared

RANK, ALPHA, RATE, SEED = 16, 32, 1e-4, 20261126
BATCH = 16
WARM_STEPS = 4
Inputs = Callable[[Prepared, list[int], str], dict[str, Any]]
"""The form in which a model takes some rows: the keyword arguments of its forward, on the device."""


def rows(count: int, vocab_size: int, longest: int) -> Prepared:
    """Chat-like rows: lengths log-normal around 330 tokens up to ``longest``, the last 40 % trained."""
    draw = np.random.default_rng(SEED)
    examples = []
    for line in range(1, count + 1):
        length = int(np.clip(draw.lognormal(5.8, 0.7), 24, longest))
        ids = draw.integers(10, vocab_size, size=length)
        weights = np.zeros(length, dtype=np.float32)
        weights[int(length * 0.6) :] = 1.0
        examples.append(TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=ids, weights_T=weights)))
    total = sum(e.num_tokens for e in examples)
    return Prepared(examples=tuple(examples), num_tokens=total, num_trained=sum(e.rendered.num_trained for e in examples), num_truncated=0)


def sync(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak(device: str) -> float:
    return round(torch.cuda.max_memory_allocated() / 1e9, 2) if device != "cpu" else 0.0


def summary(seconds: list[float], tokens: list[int], losses: list[float], device: str) -> dict[str, Any]:
    rates = [t / s for t, s in zip(tokens[WARM_STEPS:], seconds[WARM_STEPS:], strict=True)]
    whole = sum(tokens[WARM_STEPS:]) / sum(seconds[WARM_STEPS:])
    return {
        "tokens_per_second": round(whole),
        "median_of_steps": round(statistics.median(rates)),
        "first_step_seconds": round(seconds[0], 2),
        "warm_seconds": round(sum(seconds[:WARM_STEPS]), 2),
        "peak_gb": peak(device),
        "losses": [round(x, 4) for x in losses[:3]] + [round(losses[-1], 4)],
    }


def clean(device: str) -> None:
    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def pieces(batch: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def optimizer_of(model: Any) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    """What trains, and the fused AdamW."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return trainable, torch.optim.AdamW(trainable, lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)


def padded(data: Prepared, part: list[int], device: str) -> dict[str, Any]:
    """Rows side by side, filled up to the longest: ids, mask and labels, each (rows, longest)."""
    made = data.batch(part)
    ids = torch.from_numpy(made.ids_BT).to(device)
    labels = torch.from_numpy(np.where(made.weights_BT > 0, made.ids_BT, -100)).to(device)
    mask = (torch.arange(ids.shape[1])[None] < torch.from_numpy(made.lengths_B)[:, None]).long().to(device)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def step_batches(data: Prepared, *, like_lengths: bool) -> list[list[int]]:
    """The rows of each step: as our trainer orders them, of like length together, or shuffled over those same rows."""
    batches = list(data.epoch_batches(batch_size=BATCH, seed=SEED, epoch=1))
    if like_lengths:
        return batches
    flat = [index for batch in batches for index in batch]
    return list(pieces([flat[i] for i in np.random.default_rng(SEED).permutation(len(flat))], BATCH))


def summed_loss(model: Any, data: Prepared, batch: list[int], device: str, *, micro: int, inputs: Inputs = padded) -> float:
    """Gradients of one step, by micro-batches; its loss over the trained tokens of the whole batch."""
    total = torch.tensor(sum(data.examples[i].rendered.num_trained for i in batch), device=device)
    loss_sum = torch.zeros((), device=device)
    for part in pieces(batch, micro):
        given = inputs(data, part, device)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(**given, num_items_in_batch=total).loss
        loss.backward()
        loss_sum += loss.detach()
    return float(loss_sum)


def rival_steps(model: Any, data: Prepared, device: str, *, micro: int, like_lengths: bool, inputs: Inputs = padded) -> dict[str, Any]:
    """The same steps as ours by a plain loop: micro-batches, clipping, the fused AdamW."""
    trainable, optimizer = optimizer_of(model)
    seconds, counts, losses = [], [], []
    for batch in step_batches(data, like_lengths=like_lengths):
        sync(device)
        began = time.perf_counter()
        losses.append(summed_loss(model, data, batch, device, micro=micro, inputs=inputs))
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sync(device)
        seconds.append(time.perf_counter() - began)
        counts.append(sum(data.examples[i].num_tokens for i in batch))
    return summary(seconds, counts, losses, device)
