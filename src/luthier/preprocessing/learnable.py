"""Which rows cannot be learned on this base: nothing of them is trained, or the chat template refuses them.

What it does: names all of them at once, in one sentence that says what to do, while the job is still being validated; what can be
seen without tokens is seen without tokens. What it does not: judge rows by themselves (``data`` does). Called by ``stage.py``,
which looks at every token once more, and by ``worker/pipelines.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from luthier.core.errors import InvalidRequest, JobFailure
from luthier.core.examples import Dataset, conversations_of
from luthier.preprocessing.tokenize import ExampleRenderer, tokenize_rows

FileRole = Literal["training", "validation"]

_NAMED_LINES = 50
_ROWS = 256


@dataclass(slots=True)
class Unlearnable:
    """Lines of rows that cannot be used; grows while rows are looked at."""

    untrained: list[int] = field(default_factory=list)
    """No token has weight: the answer lies past the length limit."""
    refused: list[tuple[int, str]] = field(default_factory=list)
    """The chat template refuses them, with its reason."""

    def raise_any(self, role: FileRole, *, max_length: int, skip_untrained: bool) -> None:
        """Raises JobFailure (``invalid_training_file`` or ``invalid_validation_file``) when the file cannot be used as it is."""
        opening = f"The job failed due to an invalid {role} file."
        if self.refused:
            line, reason = self.refused[0]
            message = f"{opening} Example {line} cannot be written in the base model's chat format: {reason}"
            if len(self.refused) > 1:
                message += f" {len(self.refused):,} examples cannot: lines {named_lines([line for line, _ in self.refused])}."
            raise _failure(message, role)
        if self.untrained and not skip_untrained:
            many = len(self.untrained) > 1
            which = f"{len(self.untrained):,} examples have" if many else f"Example {self.untrained[0]} has"
            lines = f" (lines {named_lines(self.untrained)})" if many else ""
            raise _failure(
                f"{opening} {which} no token to learn from{lines}: the answer has no weight or begins past the length limit of "
                f"{max_length:,} tokens. Raise luthier.max_length if the model can read more, shorten the rows, or set "
                "luthier.skip_untrained to leave them out.",
                role,
            )


def check_learnable(dataset: Dataset, renderer: ExampleRenderer, *, max_length: int, role: FileRole, skip_untrained: bool) -> None:
    """Look at every row of a file, tokenizing only those that may be longer than the limit.

    Raises:
        JobFailure: rows cannot be learned; the sentence names their lines.
    """
    found = Unlearnable()
    long: list[int] = []
    for i, example in enumerate(dataset.examples):
        try:
            if max(renderer.most_tokens(c, dataset.row_format.value) for c in conversations_of(example)) > max_length:
                long.append(i)
        except InvalidRequest as refusal:
            found.refused.append((example.source.line, refusal.message))
    for start in range(0, len(long), _ROWS):
        rows = [dataset.examples[i] for i in long[start : start + _ROWS]]
        for example, tokenized in zip(rows, tokenize_rows(rows, renderer, dataset.row_format, max_length=max_length), strict=True):
            if isinstance(tokenized, InvalidRequest):
                found.refused.append((example.source.line, tokenized.message))
            elif not tokenized:
                found.untrained.append(example.source.line)
    found.refused.sort()
    found.raise_any(role, max_length=max_length, skip_untrained=skip_untrained)
    if dataset.examples and len(found.untrained) == len(dataset.examples):
        raise nothing_left(len(dataset.examples), role, max_length)


def nothing_left(num_examples: int, role: FileRole, max_length: int) -> JobFailure:
    """The failure of a set of which nothing can be learned."""
    return _failure(
        f"The job failed due to an invalid {role} file. None of its {num_examples:,} example(s) has a token to train on: "
        f"every answer lies past the length limit of {max_length:,} tokens.",
        role,
    )


def named_lines(lines: Sequence[int]) -> str:
    """At most 50 numbers, and how many more there are."""
    named = ", ".join(map(str, lines[:_NAMED_LINES]))
    return named if len(lines) <= _NAMED_LINES else f"{named} and {len(lines) - _NAMED_LINES:,} more"


def _failure(message: str, role: FileRole) -> JobFailure:
    return JobFailure(message, code=f"invalid_{role}_file", param=f"{role}_file")
