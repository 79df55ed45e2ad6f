"""A job's tokens: taken from the cache that jobs share, or made and put there.

What it does: says what the tokens depend on, tells in the trace whether they were read or made and how far it is, goes on without a cache
where none can be written. What it does not: tokenize (``preprocessing/stage.py``), lay out files or remove them
(``preprocessing/cache.py``). Called by ``pipelines.py``.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from luthier.chat.renderer import Renderer
from luthier.core.errors import StorageFull, Unavailable
from luthier.core.examples import Dataset
from luthier.core.settings import PACKAGE_DIR
from luthier.core.stage import Stage
from luthier.preprocessing.cache import CacheKey, TokenCache
from luthier.preprocessing.learnable import FileRole
from luthier.preprocessing.parallel import processes_for, tokenize_over_processes
from luthier.preprocessing.stage import KeptRows, Prepared, prepared_from
from luthier.preprocessing.table import table_in_memory
from luthier.preprocessing.tokenize import tokenize_all
from luthier.trace.events import Notice
from luthier.worker.context import RunContext
from luthier.worker.start import Start, options_of

FIRST_REPORT_SECONDS = 2.0
REPORT_SECONDS = 10.0
"""How long until tokenizing says how far it is, and between two such reports."""
MANY_ROWS = 20_000
"""Fewer are tokenized before other processes would have begun."""
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_RENDERING_CODE = (
    "chat",
    "data/validate.py",
    "data/messages.py",
    "preprocessing/tokenize.py",
    "preprocessing/stage.py",
    "preprocessing/table.py",
)
_LIBRARIES = ("tokenizers", "jinja2")


@dataclass(frozen=True, slots=True)
class MadeTokens:
    """One file's tokens, and whether an earlier job had made them."""

    prepared: Prepared
    reused: bool


class Progress:
    """Says how far tokenizing is, but not of what is done at once; and ends it when the server stops."""

    def __init__(self, ctx: RunContext, role: FileRole, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ctx = ctx
        self._role = role
        self._total = total
        self._clock = clock
        self._began = clock()
        self._next = self._began + FIRST_REPORT_SECONDS

    def __call__(self, done: int) -> None:
        """Take the number of examples done.

        Raises:
            Unavailable: the job is to stop; the next attempt begins this stage anew.
        """
        now = self._clock()
        # What is done at once is done to its end: then the trainer stops, and keeps what an earlier attempt learned.
        if now - self._began >= FIRST_REPORT_SECONDS and self._ctx.should_stop():
            raise Unavailable("The job was stopped while its examples were tokenized.")
        if now < self._next or done >= self._total:
            return
        self._next = now + REPORT_SECONDS
        rate = done / (now - self._began)
        self._ctx.tracer.emit(
            Stage.PREPROCESSING,
            Notice(
                level="info",
                message=f"Tokenized {done:,} of {self._total:,} {self._role} examples, {rate:,.0f} a second; "
                f"about {(self._total - done) / rate:.0f} s to go.",
            ),
        )


def tokens_of(ctx: RunContext, dataset: Dataset, start: Start, *, max_length: int, role: FileRole) -> MadeTokens:
    """The tokens of one of the job's files.

    Raises:
        JobFailure: see ``preprocessing.stage.prepare``.
        Unavailable: the job is to stop.
    """
    cache = TokenCache(ctx.settings.tokens_dir, max_bytes=ctx.settings.token_cache_bytes)
    if not cache.is_on:
        return MadeTokens(_in_memory(ctx, dataset, start, max_length, role), reused=False)
    key = cache_key(start, dataset, max_length, skip_untrained=options_of(ctx.job).skip_untrained)
    began = time.perf_counter()
    stored = cache.read(key, dataset.file_id)
    if stored is not None:
        read = f"{len(stored.table):,} examples read from the token cache in {time.perf_counter() - began:.2f} s."
        text = f"The {role} file was tokenized by an earlier job: {read}"
        ctx.tracer.emit(Stage.PREPROCESSING, Notice(level="info", message=text))
        return MadeTokens(prepared_from(stored.table, stored.notes, dataset), reused=True)
    rows = _rows(ctx, dataset, start, max_length, role)
    try:
        stored = cache.write(key, rows, rows.notes, vocab_size=start.facts.vocab_size or 1 << 32, file_id=dataset.file_id)
    except (StorageFull, OSError) as error:
        reason = error.message if isinstance(error, StorageFull) else error.strerror or str(error)
        text = f"The tokens of the {role} file could not be kept for later jobs; this one goes on without. Reason: {reason}"
        ctx.tracer.emit(Stage.PREPROCESSING, Notice(level="warn", message=text))
        return MadeTokens(_in_memory(ctx, dataset, start, max_length, role), reused=False)
    return MadeTokens(prepared_from(stored.table, stored.notes, dataset), reused=False)


def _in_memory(ctx: RunContext, dataset: Dataset, start: Start, max_length: int, role: FileRole) -> Prepared:
    rows = _rows(ctx, dataset, start, max_length, role)
    table = table_in_memory(dataset.file_id, rows)
    return prepared_from(table, rows.notes(), dataset)


def _rows(ctx: RunContext, dataset: Dataset, start: Start, max_length: int, role: FileRole) -> KeptRows:
    """The file's rows as tokens, made by several processes when they are many."""
    processes = processes_for(ctx.settings.train_threads or os.cpu_count() or 1)
    if processes > 1 and len(dataset.examples) >= MANY_ROWS:
        load = partial(Renderer.load, start.folder)
        chunks = tokenize_over_processes(dataset.examples, load, dataset.row_format, max_length=max_length, processes=processes)
    else:
        chunks = tokenize_all(dataset.examples, start.renderer, dataset.row_format, max_length=max_length)
    progress = Progress(ctx, role, len(dataset.examples))
    skip = options_of(ctx.job).skip_untrained
    return KeptRows(chunks, max_length=max_length, role=role, skip_untrained=skip, on_progress=progress)


def cache_key(start: Start, dataset: Dataset, max_length: int, *, skip_untrained: bool = False) -> CacheKey:
    """What the tokens of a data set depend on. The base's weights do not count: bases with one tokenizer and template share."""
    return CacheKey(
        sha256=dataset.fingerprint,
        options={
            "tokenizer": _digest(start.folder / name for name in _TOKENIZER_FILES),
            "row_format": dataset.row_format.value,
            "max_length": max_length,
            "skip_untrained": skip_untrained,
            "code": _digest(path for name in _RENDERING_CODE for path in _sources(PACKAGE_DIR / name)),
            "libraries": {name: version(name) for name in _LIBRARIES},
            # Some templates write today's date.
            "date": time.strftime("%Y-%m-%d") if "strftime_now" in (start.renderer.template_source or "") else "",
        },
    )


def _sources(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def _digest(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents; a file that is missing counts as such."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode())
        total.update(hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"-")
    return total.hexdigest()
