"""The plainest greedy generation: the whole text through the model for every token.

Nothing is cached or batched here, so there is little to get wrong: ``tests/invariants`` hold the engine to it. Called
by tests only.
"""

from collections.abc import Collection, Sequence

import torch

from luthier.models.language_model import LanguageModel


@torch.inference_mode()
def generate(
    model: LanguageModel, prompt_ids: Sequence[int], *, max_new_tokens: int, stop_ids: Collection[int] = (), adapter: str | None = None
) -> list[int]:
    """The greedy continuation of ``prompt_ids``: at most ``max_new_tokens`` ids, the end token included."""
    ids = list(prompt_ids)
    start = len(ids)
    with model.use_adapter(adapter):
        while len(ids) - start < max_new_tokens:
            ids_BT = torch.tensor([ids], dtype=torch.long)
            last = torch.tensor([len(ids) - 1])
            logits_NV = model.logits_at(ids_BT, torch.tensor([len(ids)]), torch.tensor([0]), last)
            ids.append(int(logits_NV[0].argmax()))
            if ids[-1] in stop_ids:
                break
    return ids[start:]
