"""Stage 2: a ``Dataset`` becomes ``Prepared`` token examples that can be batched.

What it does: tokenizes every example, leaves out rows that teach nothing and counts them by line, refuses a set of which
nothing is left. What it does not: decide numbers (``training/resolve.py``). Called by ``worker/pipelines.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.examples import Dataset, SourceLine
from luthier.core.tokens import TokenBatch, TokenizedExample
from luthier.preprocessing.batches import collate, epoch_order
from luthier.preprocessing.tokenize import ExampleRenderer, tokenize

MAX_KEPT_LINES = 50


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
    """Rows left out because none of their tokens is trained (all of the answer lay past the cut)."""
    skipped: tuple[SourceLine, ...] = ()
    """The first 50 of the rows left out."""

    def epoch_batches(self, *, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """The order of one epoch: lists of indices into ``examples``; see ``batches.epoch_order``."""
        return epoch_order([example.num_tokens for example in self.examples], batch_size, seed=seed, epoch=epoch)

    def batch(self, indices: Sequence[int]) -> TokenBatch:
        """The chosen examples side by side."""
        return collate([self.examples[index] for index in indices])


def prepare(dataset: Dataset, renderer: ExampleRenderer, *, max_length: int, role: Literal["training", "validation"]) -> Prepared:
    """Tokenize a whole data set.

    Raises:
        JobFailure: the base's chat template refuses a row, or no row has a single trained token; code
            ``invalid_training_file`` or ``invalid_validation_file``.
    """
    kept: list[TokenizedExample] = []
    skipped: list[SourceLine] = []
    num_skipped = 0
    for example in dataset.examples:
        try:
            tokenized = tokenize(example, renderer, dataset.row_format, max_length=max_length)
        except InvalidRequest as refusal:
            raise JobFailure(
                f"The job failed due to an invalid {role} file. Example {example.source.line} cannot be written in the base model's "
                f"chat format: {refusal.message}",
                code=f"invalid_{role}_file",
                param=f"{role}_file",
            ) from refusal
        if tokenized.rendered.num_trained:
            kept.append(tokenized)
            continue
        num_skipped += 1
        if len(skipped) < MAX_KEPT_LINES:
            skipped.append(example.source)
    if not kept:
        raise JobFailure(
            f"The job failed due to an invalid {role} file. None of its {num_skipped} example(s) has a token to train on: "
            f"every answer lies past the length limit of {max_length} tokens.",
            code=f"invalid_{role}_file",
            param=f"{role}_file",
        )
    return Prepared(
        examples=tuple(kept),
        num_tokens=sum(example.num_tokens for example in kept),
        num_trained=sum(example.rendered.num_trained for example in kept),
        num_truncated=sum(example.truncated > 0 for example in kept),
        num_skipped=num_skipped,
        skipped=tuple(skipped),
    )
