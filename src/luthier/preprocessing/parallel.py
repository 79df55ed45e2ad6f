"""Tokenizing a large file over several processes: the same rows in the same order, sooner.

What it does: hands chunks of rows to processes that have a renderer of their own, and takes the results in the file's order. What it
does not: read the rows itself (each process does, from where they stand). Called by ``worker/token_cache.py``.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process

from luthier.core.examples import RowFormat, TunableExample
from luthier.preprocessing.tokenize import CHUNK_ROWS, ExampleRenderer, TokenizedChunk, tokenize_chunk

MOST_PROCESSES = 8
_CHUNKS_AHEAD = 3
"""Chunks per process that may be under way or wait to be taken: what bounds the memory."""


@dataclass(frozen=True, slots=True)
class _Setting:
    renderer: ExampleRenderer
    row_format: RowFormat
    max_length: int


_setting: _Setting | None = None


def processes_for(cores: int) -> int:
    """How many processes to tokenize with. This one takes and writes what they make: little work, but what many make keeps a core busy."""
    return cores if cores <= 2 else min(cores - 1, MOST_PROCESSES)


def tokenize_over_processes(
    examples: Sequence[TunableExample], load: Callable[[], ExampleRenderer], row_format: RowFormat, *, max_length: int, processes: int
) -> Iterator[TokenizedChunk]:
    """As ``tokenize_all``. Should a process be killed, this one does the rest itself.

    Args:
        examples: slices of it are sent to the processes: they should be small when pickled.
        load: makes a renderer; can be pickled.
        row_format: of the file.
        max_length: longest example, tokens.
        processes: how many.
    """
    if not examples:
        return
    starts = range(0, len(examples), CHUNK_ROWS)
    done = 0
    # A fresh interpreter: this process may have threads, which a fork would leave behind in the middle of their work.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_begin, initargs=(load, row_format, max_length))
    try:
        waiting: deque[Future[TokenizedChunk]] = deque()
        for start in starts:
            waiting.append(pool.submit(_tokenize, examples[start : start + CHUNK_ROWS]))
            if len(waiting) == processes * _CHUNKS_AHEAD:
                yield waiting.popleft().result()
                done += 1
        while waiting:
            yield waiting.popleft().result()
            done += 1
    except BrokenProcessPool:
        renderer = load()
        for start in starts[done:]:
            yield tokenize_chunk(examples[start : start + CHUNK_ROWS], renderer, row_format, max_length=max_length)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(load: Callable[[], ExampleRenderer], row_format: RowFormat, max_length: int) -> None:
    global _setting
    # One process is one core; the library's own threads would only be in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_exit_with_parent, name="orphan-watch", daemon=True).start()
    _setting = _Setting(load(), row_format, max_length)


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _tokenize(examples: Sequence[TunableExample]) -> TokenizedChunk:
    assert _setting is not None
    return tokenize_chunk(examples, _setting.renderer, _setting.row_format, max_length=_setting.max_length)
