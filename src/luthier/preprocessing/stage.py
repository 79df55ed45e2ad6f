"""Stage 2: a ``Dataset`` becomes ``Prepared`` token examples that can be batched.

What it does: tokenizes every example; refuses a set with rows that teach nothing, by line, or leaves them out when that was asked
for. What it does not: decide numbers (``training/resolve.py``). Called by ``worker/pipelines.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.examples import Dataset, SourceLine
from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.preprocessing.batches import collate, epoch_order
from luthier.preprocessing.learnable import FileRole, Unlearnable, nothing_left
from luthier.preprocessing.tokenize import ExampleRenderer, tokenize_rows

MAX_KEPT_LINES = 50
# Rows that the tokenizer gets at once: enough for all cores, few enough that memory stays small.
_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Token examples in file order, ready to be batched. Satisfies ``training.tokens.TokenSource``."""

    examples: tuple[TokenizedExample, ...]
    num_tokens: int
    """Tokens of all examples after cutting, no padding."""
    num_trained: int
    """Tokens that count in the loss."""
    num_truncated: int
    """Examples that were cut."""
    num_skipped: int = 0
    """Rows left out, as asked, because none of their tokens is trained (all of the answer lay past the cut)."""
    skipped: tuple[SourceLine, ...] = ()
    """The first 50 of the rows left out."""
    num_rows: int = 0
    """Rows that the examples come from: fewer than examples where the chat template rewrites earlier turns."""

    def epoch_batches(self, *, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """The order of one epoch: lists of indices into ``examples``; see ``batches.epoch_order``."""
        return epoch_order([example.num_tokens for example in self.examples], batch_size, seed=seed, epoch=epoch)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The chosen examples side by side."""
        return collate([self.examples[index] for index in indices])


def prepare(dataset: Dataset, renderer: ExampleRenderer, *, max_length: int, role: FileRole, skip_untrained: bool = False) -> Prepared:
    """Tokenize a whole data set. Every example that it gives has at least one trained token.

    Args:
        dataset: checked rows.
        renderer: of the base.
        max_length: longest example in tokens; what goes beyond is cut off at the end.
        role: which file it is, for the wording of a failure.
        skip_untrained: leave rows without a trained token out, and count them, instead of failing.

    Raises:
        JobFailure: rows that the base's chat template refuses, rows without a single trained token, or no row left; code
            ``invalid_training_file`` or ``invalid_validation_file``. The sentence names all lines (50 at most).
    """
    kept: list[TokenizedExample] = []
    skipped: list[SourceLine] = []
    found = Unlearnable()
    for start in range(0, len(dataset.examples), _ROWS):
        rows = dataset.examples[start : start + _ROWS]
        for example, tokenized in zip(rows, tokenize_rows(rows, renderer, dataset.row_format, max_length=max_length), strict=True):
            if isinstance(tokenized, InvalidRequest):
                found.refused.append((example.source.line, tokenized.message))
                continue
            kept += tokenized
            if not tokenized:
                found.untrained.append(example.source.line)
                skipped.append(example.source)
    found.raise_any(role, max_length=max_length, skip_untrained=skip_untrained)
    if not kept:
        raise nothing_left(len(dataset.examples), role, max_length)
    return Prepared(
        examples=tuple(kept),
        num_tokens=sum(example.num_tokens for example in kept),
        num_trained=sum(example.rendered.num_trained for example in kept),
        num_truncated=sum(example.truncated > 0 for example in kept),
        num_skipped=len(skipped),
        skipped=tuple(skipped[:MAX_KEPT_LINES]),
        num_rows=len(dataset.examples) - len(skipped),
    )
