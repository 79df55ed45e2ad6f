"""Greedy answers of the model in hand, in the middle of training: some prompts side by side, bounded in tokens and in time.

What it does: the same choice at each token as the engine's at temperature 0. What it does not: sample, stream, render or decode text.
Draws no random numbers and leaves the model's mode as it was, so that a run's bits are those of one that asks nothing.
Called by ``worker/fixed_prompts.py``, never during a step.
"""

import time
from collections.abc import Collection, Sequence

import torch

from luthier.models.language_model import LanguageModel


def greedy_answers(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, stop_ids: Collection[int], max_tokens: int, seconds: float
) -> list[list[int]]:
    """One answer for each prompt, with the adapter that is in use.

    Args:
        model: its base, adapter and weights are only read.
        prompts: ids, each at least one, and with ``max_tokens`` no longer than the model reads.
        stop_ids: tokens that end an answer; they are no part of it.
        max_tokens: most tokens of an answer.
        seconds: when so many are over, answers stay as far as they are.
    """
    until = time.perf_counter() + seconds
    was_training = model.module.training
    model.module.eval()
    try:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + max_tokens)
        answers: list[list[int]] = [[] for _ in prompts]
        active: list[int] = []
        for slot, ids in enumerate(prompts):
            if time.perf_counter() > until:
                break
            token = int(model.prefill(cache, slot, torch.as_tensor(ids, dtype=torch.int64)).argmax())
            if token not in stop_ids:
                answers[slot].append(token)
                active.append(slot)
        while active and len(answers[active[0]]) < max_tokens and time.perf_counter() < until:
            chosen = model.decode(cache, active, [answers[slot][-1] for slot in active]).argmax(-1).tolist()
            going = [(slot, token) for slot, token in zip(active, chosen, strict=True) if token not in stop_ids]
            for slot, token in going:
                answers[slot].append(token)
            active = [slot for slot, _ in going]
    finally:
        model.module.train(was_training)
    return answers
