"""Loss and token accuracy of given answers, and the probabilities of a prompt's tokens, in pieces short enough that chat goes on.

What it does: batches examples by length, compares the model's predictions with the trained tokens.
What it does not: load models, render, reply to callers. Called by ``host_requests.py`` on the engine's thread.

Axis letters: R examples of a batch, T tokens of a row, N trained positions of a batch, V vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from luthier.core.tokens import Rendered
from luthier.engine.sampler import Pick, described
from luthier.models.language_model import LanguageModel

MAX_ROWS = 16
# Bounds of one piece: padded tokens read, and bytes of float32 logits.
MAX_PIECE_TOKENS = 4096
MAX_LOGITS_BYTES = 256 * 1024**2
_RENDERED_PER_PIECE = 64


@dataclass(frozen=True, slots=True)
class Row:
    """One example's tokens; ``trained_T`` is True where the prediction of the token counts."""

    ids_T: np.ndarray
    trained_T: np.ndarray

    @property
    def num_trained(self) -> int:
        """How many predictions count."""
        return int(np.count_nonzero(self.trained_T))


@dataclass(frozen=True, slots=True)
class Entry:
    """Sums over one example's trained tokens; ``loss_sum`` in nats."""

    loss_sum: float = 0.0
    num_tokens: int = 0
    num_correct: int = 0


def score(model: LanguageModel, adapter: str | None, examples: Iterable[Rendered], max_length: int) -> Iterator[tuple[Entry, ...] | None]:
    """Yields None after each piece of work, and last the entries in the order of ``examples`` (rendered as they are taken).

    Examples longer than ``max_length`` tokens are cut at the end, as training cuts them.
    """
    rows: list[Row] = []
    for rendered in examples:
        rows.append(Row(rendered.ids_T[:max_length], rendered.weights_T[:max_length] > 0))
        if len(rows) % _RENDERED_PER_PIECE == 0:
            yield None
    entries = [Entry()] * len(rows)
    for batch in _batches(rows, model.facts.vocab_size):
        for index, entry in zip(batch, _score_batch(model, adapter, [rows[i] for i in batch]), strict=True):
            entries[index] = entry
        yield None
    yield tuple(entries)


def _batches(rows: Sequence[Row], vocab_size: int) -> Iterator[list[int]]:
    """Indexes of rows that are scored together; rows without a trained token are left out."""
    order = sorted((i for i, row in enumerate(rows) if row.num_trained), key=lambda i: len(rows[i].ids_T))
    max_logits = MAX_LOGITS_BYTES // (4 * vocab_size)
    batch: list[int] = []
    for index in order:
        # Rows come in rising length, so the newest one sets the padded width.
        tokens = (len(batch) + 1) * len(rows[index].ids_T)
        logits = sum(rows[i].num_trained for i in (*batch, index))
        if batch and (len(batch) == MAX_ROWS or tokens > MAX_PIECE_TOKENS or logits > max_logits):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def _score_batch(model: LanguageModel, adapter: str | None, batch: Sequence[Row]) -> list[Entry]:
    lengths_R = torch.tensor([len(row.ids_T) for row in batch])
    ids_RT = torch.zeros((len(batch), int(lengths_R.max())), dtype=torch.long)
    for r, row in enumerate(batch):
        ids_RT[r, : len(row.ids_T)] = torch.from_numpy(np.ascontiguousarray(row.ids_T, dtype=np.int64))
    rows_N = torch.cat([torch.full((row.num_trained,), r) for r, row in enumerate(batch)])
    columns_N = torch.cat([torch.from_numpy(np.flatnonzero(row.trained_T)) for row in batch])
    wanted_N = ids_RT[rows_N, columns_N]
    with model.use_adapter(adapter):
        # The logits at a column predict the token after it.
        logits_NV = model.logits_at(ids_RT, lengths_R, rows_N, columns_N - 1)
    logits_NV = logits_NV.float().cpu()
    loss_N = torch.nn.functional.cross_entropy(logits_NV, wanted_N, reduction="none").double()
    correct_N = (logits_NV.argmax(dim=-1) == wanted_N).double()
    zeros_R = torch.zeros(len(batch), dtype=torch.float64)
    loss_R = zeros_R.index_add(0, rows_N, loss_N).tolist()
    correct_R = zeros_R.index_add(0, rows_N, correct_N).tolist()
    return [Entry(loss, row.num_trained, int(correct)) for row, loss, correct in zip(batch, loss_R, correct_R, strict=True)]


def score_prompt(model: LanguageModel, adapter: str | None, ids: Sequence[int], top_logprobs: int) -> Iterator[tuple[Pick, ...]]:
    """Yields each token of a prompt with its log-probability after the tokens before it, in pieces; the first token, which has none
    before it, with 0 and no alternatives."""
    yield (Pick(ids[0], 0.0),)
    piece = max(1, MAX_LOGITS_BYTES // (4 * model.facts.vocab_size))
    for start in range(1, len(ids), piece):
        yield _score_tokens(model, adapter, ids[: start + piece], start, top_logprobs)


@torch.inference_mode()
def _score_tokens(model: LanguageModel, adapter: str | None, ids: Sequence[int], start: int, top_logprobs: int) -> tuple[Pick, ...]:
    """The tokens from ``start`` on."""
    columns_N = torch.arange(start, len(ids))
    with model.use_adapter(adapter):
        logits_NV = model.logits_at(torch.tensor([list(ids)]), torch.tensor([len(ids)]), torch.zeros_like(columns_N), columns_N - 1)
    logits_NV = logits_NV.float().cpu()
    return tuple(described(logits_V, ids[column], top_logprobs) for logits_V, column in zip(logits_NV, columns_N.tolist(), strict=True))
