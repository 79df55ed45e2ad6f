"""Memory decides who may join: a job begins beside others when all of them together are sure to fit, and waits in the queue until then.

What it does: bounds what a job takes from above, by its file's longest row and its model's shape, before a token is made; adds up what
shares a process. What it does not: refuse a job that does not fit alone (``forecasting.py`` does, by its real rows). On a GPU nothing is
foretold yet, and every job is let in. Called by ``group_child.py``.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import Unavailable
from luthier.core.jobs import ModelKind, NewEvent
from luthier.core.specs import Keep, LoraKind
from luthier.jobs.queue import JobQueue
from luthier.models.facts import ModelFacts, read_config, read_facts
from luthier.training.resolve import DEFAULT_RANK, auto_batch_size, resolve_max_length
from luthier.training.sft import most_tokens_of
from luthier.training.work import (
    Micro,
    ModelShape,
    activation_bytes,
    dora_bytes,
    learning_bytes,
    logits_at_once,
    packed_bytes,
    resume_bytes,
    shape_of,
    weight_bytes,
)
from luthier.worker.context import RunContext
from luthier.worker.machine import available_memory
from luthier.worker.start import hyperparameters_of, objective_kind, options_of

LOOK_SECONDS = 1.0
_TEMPLATE_TOKENS = 256
"""What a chat template writes around a row, at most."""
_BYTES_PER_FILE_BYTE = 8
"""Rows as Python's objects, and their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a job takes at most, bytes. Those on one base share the base, and take turns with their activations."""

    base: Path
    quantization: str | None = None
    """One base in 4 bits and as it is are two."""
    base_bytes: int
    own_bytes: int
    activation_bytes: int


def together(needs: list[Need]) -> int:
    """What jobs of one process take at most, beside the process itself."""
    bases = {(need.base, need.quantization): need.base_bytes for need in needs}
    return sum(bases.values()) + sum(need.own_bytes for need in needs) + max((need.activation_bytes for need in needs), default=0)


def need_of(ctx: RunContext) -> Need:
    """An upper bound for a LoRA job, from its files' longest lines: no token is shorter than a byte."""
    job, options = ctx.job, options_of(ctx.job)
    record = ctx.models.get(job.parent_model) if job.parent_model else None
    if record is None or record.kind is not ModelKind.FULL:
        record = ctx.models.get(job.base)
    if record is None:
        return Need(base=Path(), base_bytes=0, own_bytes=0, activation_bytes=0)  # the pipeline says that it is gone
    folder = ctx.settings.resolve_model_path(record.path)
    facts = read_facts(folder, hashed=False)
    shape = shape_of(read_config(folder), facts)
    rows, longest, num_bytes = measure_lines([ctx.blobs.path(sha) for sha in (job.training_sha256, job.validation_sha256) if sha])
    batch_size = hyperparameters_of(job).batch_size or int(auto_batch_size(max(1, rows)).value)
    each = objective_kind(job).rows_per_example
    longest = min(longest + _TEMPLATE_TOKENS, int(resolve_max_length(options.max_length, facts.max_length).value))
    rank = options.rank or DEFAULT_RANK
    dora, nf4 = options.kind is LoraKind.DORA, options.quantization is not None
    trainable = shape.adapter_parameters(rank, dora=dora)
    best = options.keep is Keep.BEST or options.patience > 0
    return Need(
        base=folder,
        quantization=options.quantization,
        base_bytes=weight_bytes(shape, nf4=nf4) + packed_bytes(shape, nf4=nf4),
        own_bytes=trainable * (8 if best else 4) + learning_bytes(trainable) + resume_bytes(trainable) + _BYTES_PER_FILE_BYTE * num_bytes,
        activation_bytes=largest_forward(shape, facts, rank=rank, rows=each * batch_size, longest=longest, dora=dora, pairs=each == 2),
    )


def largest_forward(shape: ModelShape, facts: ModelFacts, *, rank: int, rows: int, longest: int, dora: bool, pairs: bool) -> int:
    """Of the largest forward: all rows as long as the longest, as many as the loop puts into one."""
    rows = max(1, min(rows, most_tokens_of(facts) // max(1, longest)))
    micro = Micro(rows=rows, longest=longest, trained=rows * longest)
    at_once = logits_at_once(shape, supervised=not pairs, on_cpu=True, full=False)
    more = dora_bytes(micro, shape, rank=rank) if dora else 0
    return more + activation_bytes(micro, shape, rank=rank, packed=True, at_once=at_once)


def measure_lines(paths: list[Path]) -> tuple[int, int, int]:
    """Rows of the first file; the longest line and the bytes of all."""
    rows, longest, num_bytes = 0, 0, 0
    for number, path in enumerate(paths):
        with path.open("rb") as file:
            for line in file:
                rows += number == 0
                longest = max(longest, len(line))
                num_bytes += len(line)
    return rows, longest, num_bytes


class Admission:
    """The door of one training process: one job at a time, in the order in which they come.

    Args:
        process_bytes: resident memory of the process before its first model.
        queue: says whether anybody else trains.
    """

    def __init__(self, process_bytes: int, queue: JobQueue) -> None:
        self._process_bytes, self._queue = process_bytes, queue
        self._door = threading.Lock()
        self._inside: dict[str, Need] = {}

    def enter(self, ctx: RunContext, wait: Callable[[float], object]) -> None:
        """Return when the job fits beside those inside, or when nobody else trains: alone it is not kept waiting.

        Raises:
            Unavailable: the job is to stop.
        """
        while not self._door.acquire(timeout=LOOK_SECONDS):
            _obey(ctx)
        try:
            need = need_of(ctx)
            said = False
            while not self._fits(ctx, need) and self._queue.others_train(ctx.job.id):
                _obey(ctx)
                if not said:
                    ctx.recorder.add(self._reason(ctx, need))
                    said = True
                wait(LOOK_SECONDS)
            self._inside[ctx.job.id] = need
        finally:
            self._door.release()

    def leave(self, job_id: str) -> None:
        """The job is over here."""
        self._inside.pop(job_id, None)

    def _taken(self, *more: Need) -> int:
        return self._process_bytes + together([*list(self._inside.values()), *more])

    def _fits(self, ctx: RunContext, need: Need) -> bool:
        return ctx.settings.device.startswith("cuda") or self._taken(need) <= available_memory(ctx.settings)

    def _reason(self, ctx: RunContext, need: Need) -> NewEvent:
        available = available_memory(ctx.settings)
        message = (
            f"The job waits for memory: with it {self._taken(need) / 1e9:.1f} GB may be needed, and {available / 1e9:.1f} GB are available "
            f"for training. It begins when a job that trains now is over."
        )
        return NewEvent(created_at=int(ctx.now()), level="info", message=message)


def _obey(ctx: RunContext) -> None:
    if ctx.should_stop():
        raise Unavailable("The job was stopped while it waited for memory.")
