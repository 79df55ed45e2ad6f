"""Which stored chat completions become training rows, and the rows.

What it does: walks the completions that a filter names, a page in memory at a time, and gives their rows. What it does not: write
files. Called by ``routes/rescue.py`` and, in the worker, by ``worker/dataset_kinds.py`` and ``worker/completion_rows.py``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from luthier.api.model_names import shown_name
from luthier.api.stored import training_rows
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.stored_completions import StoredCompletion
from luthier.storage.stored_completions import StoredCompletionStore

_PAGE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionFilter:
    """Which completions; everything that is given must hold."""

    model: str | None = None
    metadata: Mapping[str, str] | None = None
    ids: Sequence[str] | None = None
    """These, in this order; the other fields narrow them."""
    after: str | None = None
    limit: int | None = None
    """Most completions that are read; None: all."""

    def fits(self, record: StoredCompletion) -> bool:
        """Whether a completion has the model and the metadata."""
        wanted = (self.metadata or {}).items()
        return (self.model is None or record.model == shown_name(self.model)) and all(record.metadata.get(k) == v for k, v in wanted)


@dataclass(slots=True)
class Captured:
    """What became of the completions so far."""

    num_read: int = 0
    num_rows: int = 0
    num_left_out: int = 0
    num_bytes: int = 0


def matching(store: StoredCompletionStore, wanted: CompletionFilter) -> Iterator[StoredCompletion]:
    """The completions asked for, oldest first, or in the order of their ids.

    Raises:
        NotFound: one of ``ids``, or ``after``, is no stored completion.
    """
    if wanted.ids is not None:
        for completion_id in wanted.ids[: wanted.limit]:
            record = store.get(completion_id)
            if record is None:
                message = f"No such chat completion: {completion_id}. Only completions created with 'store': true are kept."
                raise NotFound(message, param="stored_completions.ids")
            if wanted.fits(record):
                yield record
        return
    after, left = wanted.after, wanted.limit
    model = None if wanted.model is None else shown_name(wanted.model)
    while left is None or left > 0:
        limit = _PAGE if left is None else min(_PAGE, left)
        page = store.list(model=model, metadata=wanted.metadata, limit=limit, after=after)
        yield from page.items
        if not page.has_more:
            return
        after = page.items[-1].id
        left = None if left is None else left - len(page.items)


def captured_rows(
    store: StoredCompletionStore, wanted: CompletionFilter, counts: Captured, *, max_line_bytes: int
) -> Iterator[tuple[StoredCompletion, list[bytes]]]:
    """Each completion with its rows, as lines; ``counts`` is kept up to date.

    Raises:
        NotFound: as ``matching``.
        InvalidRequest: at the end, when there was no row.
    """
    for record in matching(store, wanted):
        lines, left_out = training_rows(record)
        fitting = [line for line in lines if len(line) <= max_line_bytes]
        counts.num_read += 1
        counts.num_rows += len(fitting)
        counts.num_left_out += left_out + len(lines) - len(fitting)
        counts.num_bytes += sum(len(line) for line in fitting)
        yield record, fitting
    if not counts.num_rows:
        raise _nothing(counts.num_read)


def _nothing(num_read: int) -> InvalidRequest:
    if not num_read:
        return InvalidRequest("No stored chat completion matches. Completions are kept when they are created with 'store': true.")
    return InvalidRequest(
        f"None of the {num_read} stored chat completions that match can be trained on: their answers are empty, were cut off, or follow "
        "tool calls without results."
    )
