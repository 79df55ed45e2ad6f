"""Examples become token ids with loss weights, cut at the longest length.

What it does: renders through the one renderer that serving uses too, most rows in bulk as columns of a table, and cuts at the end. A row
whose earlier answers the chat template rewrites becomes an example for each of them; a preference row becomes two, the preferred answer
first. What it does not: choose the length or judge the whole set (``stage.py``). Called by ``stage.py``, ``parallel.py`` and
``learnable.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from luthier.core.conversation import Conversation
from luthier.core.errors import InvalidRequest
from luthier.core.examples import PreferenceExample, RowFormat, TunableExample, conversations_of
from luthier.core.tokens import Rendered, RenderedRows, TokenizedExample, TokenSpan
from luthier.preprocessing.table import TokenTable, chosen_rows, cut_rows, table_in_memory, table_of_examples, table_of_rows

CHUNK_ROWS = 256
"""Rows that the tokenizer gets at once: enough for all cores, few enough that memory stays small."""

_SUPERVISED = (RowFormat.CHAT, RowFormat.PROMPT_COMPLETION)


class ExampleRenderer(Protocol):
    """What preprocessing needs of ``chat.renderer.Renderer``."""

    def example(self, conversation: Conversation, row_format: str = ..., /) -> Rendered:
        """A whole conversation with loss weights on what the assistant says; ``row_format`` as in ``core.examples.RowFormat``."""
        ...

    def examples(self, conversations: Sequence[Conversation], row_format: str = ..., /) -> Sequence[Rendered | InvalidRequest]:
        """Many at once; a refusal stands in the place of its example."""
        ...

    def in_bulk(self, conversations: Sequence[Conversation], /) -> RenderedRows | None:
        """As ``examples``, in columns and much sooner, of those conversations that allow it, if any."""
        ...

    def split(self, conversation: Conversation, row_format: str = ..., /) -> Sequence[Conversation]:
        """Conversations whose examples together train every answer that has weight."""
        ...

    def most_tokens(self, conversation: Conversation, row_format: str = ..., /) -> int:
        """A number that the example's tokens do not exceed, found without tokenizing. Raises InvalidRequest as ``example`` does."""
        ...


def tokenize(example: TunableExample, renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int) -> TokenizedExample:
    """Render one example; tokens past ``max_length`` are cut off at the end and counted.

    Raises:
        InvalidRequest: the base's chat template refuses the messages.
    """
    return _limited(example, renderer.example(example.conversation, row_format.value), max_length)


def tokenize_rows(
    rows: Sequence[TunableExample], renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int
) -> list[tuple[TokenizedExample, ...] | InvalidRequest]:
    """Render several rows at once: for each its examples that have a trained token, or the template's refusal.

    Most rows give one example. A row none of whose tokens is trained gives none. Of a row that the chat template splits, examples
    that lose their answer to the cut are left out. A preference row gives both of its answers or, where one of them is lost, none.
    """
    conversations = [conversation for row in rows for conversation in conversations_of(row)]
    rendered_ones = iter(renderer.examples(conversations, row_format.value))
    done: list[tuple[TokenizedExample, ...] | InvalidRequest] = []
    for row in rows:
        rendered = next(rendered_ones)
        if isinstance(row, PreferenceExample):
            done.append(_pair(row, rendered, next(rendered_ones), max_length))
            continue
        if isinstance(rendered, InvalidRequest):
            done.append(rendered)
            continue
        parts = [rendered]
        if rendered.rewritten:
            whole = renderer.examples(renderer.split(row.conversation, row_format.value), row_format.value)
            parts = [part for part in whole if isinstance(part, Rendered)]
        examples = [_limited(row, part, max_length) for part in parts]
        done.append(tuple(example for example in examples if example.rendered.num_trained))
    return done


def _pair(
    row: PreferenceExample, preferred: Rendered | InvalidRequest, other: Rendered | InvalidRequest, max_length: int
) -> tuple[TokenizedExample, ...] | InvalidRequest:
    for rendered in (preferred, other):
        if isinstance(rendered, InvalidRequest):
            return rendered
    both = tuple(_limited(row, rendered, max_length) for rendered in (preferred, other) if isinstance(rendered, Rendered))
    return both if all(example.rendered.num_trained for example in both) else ()


@dataclass(frozen=True, slots=True)
class TokenizedChunk:
    """What became of some rows of a file that follow one another."""

    table: TokenTable
    """Their examples that have a trained token, in the file's order: usually one of each row."""
    lines: list[int]
    """Of each row."""
    counts: list[int]
    """How many examples each row gave."""
    refusals: dict[int, str]
    """Why the base's chat template does not take a row, by its place among these."""

    def __len__(self) -> int:
        return len(self.lines)


def tokenize_chunk(rows: Sequence[TunableExample], renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int) -> TokenizedChunk:
    """The examples of at least one row, as ``tokenize_rows`` gives them, in a table."""
    read = list(rows)
    file_id, lines = read[0].source.file_id, [row.source.line for row in read]
    tables: list[TokenTable] = []
    owners: list[int] = []
    bulk = renderer.in_bulk([row.conversation for row in read]) if row_format in _SUPERVISED else None
    if bulk is not None:
        cut, truncated_R = cut_rows(bulk, max_length)
        tables.append(table_of_rows(file_id, cut, lines=[lines[i] for i in bulk.chosen], truncated_R=truncated_R))
        owners += bulk.chosen
    rest = sorted(set(range(len(read))).difference(owners))
    refusals: dict[int, str] = {}
    examples: list[TokenizedExample] = []
    for i, done in zip(rest, tokenize_rows([read[i] for i in rest], renderer, row_format, max_length=max_length), strict=True):
        if isinstance(done, InvalidRequest):
            refusals[i] = done.message
        else:
            examples += done
            owners += [i] * len(done)
    if examples:
        tables.append(table_of_examples(examples))
    table = table_in_memory(file_id, tables)
    order = np.argsort(np.array(owners, dtype=np.int64), kind="stable")
    order = order[table.columns["trained"][order] > 0]
    counts = np.bincount(np.array(owners, dtype=np.int64)[order], minlength=len(read)).tolist()
    return TokenizedChunk(table=chosen_rows(table, order), lines=lines, counts=counts, refusals=refusals)


def tokenize_all(
    rows: Sequence[TunableExample], renderer: ExampleRenderer, row_format: RowFormat, *, max_length: int
) -> Iterator[TokenizedChunk]:
    """All rows of a file, a chunk at a time."""
    for start in range(0, len(rows), CHUNK_ROWS):
        yield tokenize_chunk(rows[start : start + CHUNK_ROWS], renderer, row_format, max_length=max_length)


def _limited(row: TunableExample, rendered: Rendered, max_length: int) -> TokenizedExample:
    surplus = max(0, rendered.ids_T.shape[0] - max_length)
    return TokenizedExample(source=row.source, rendered=_cut(rendered, max_length) if surplus else rendered, truncated=int(surplus))


def _cut(rendered: Rendered, length: int) -> Rendered:
    return Rendered(
        ids_T=rendered.ids_T[:length],
        weights_T=rendered.weights_T[:length],
        spans=tuple(_cut_span(span, length) for span in rendered.spans if span.start < length),
    )


def _cut_span(span: TokenSpan, length: int) -> TokenSpan:
    return span if span.end <= length else replace(span, end=length)
