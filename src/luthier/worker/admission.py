"""Memory decides who may join: a job begins beside others when all of them together are sure to fit, and waits in the queue until then.

What it does: bounds what a job takes from above, by its file's longest row and its model's shape, before a token is made; adds up what
shares a process, and compares it with the memory of the device that the job is placed on: the machine's, or a GPU's. What it does not:
refuse a job that does not fit alone (``forecasting.py`` does, by its real rows). Called by ``group_child.py``, whose process may ask CUDA
because it forks no other.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.core.jobs import ModelKind, NewEvent
from luthier.core.specs import Keep, LoraKind, ObjectiveKind, TuningMethod
from luthier.jobs.queue import JobQueue
from luthier.models.device import Placement, placement_of, training_placement
from luthier.models.facts import ModelFacts, read_config, read_facts
from luthier.training.card_memory import WORKSPACE_BYTES, CardJob, card_room, width_of
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
from luthier.worker.machine import DeviceMemory, available_memory, device_memory
from luthier.worker.spec_file import read_spec
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
    joint_bytes: int = 0
    """Of the largest forward that several jobs may have together; 0 where each computes alone."""


NOTHING = Need(base=Path(), base_bytes=0, own_bytes=0, activation_bytes=0)
"""Of a job that cannot begin; the pipeline says why."""


def together(needs: list[Need]) -> int:
    """What jobs of one process take at most, beside the process itself."""
    bases = {(need.base, need.quantization): need.base_bytes for need in needs}
    each = [need.activation_bytes for need in needs]
    at_once = min(sum(each), max((need.joint_bytes for need in needs), default=0))
    return sum(bases.values()) + sum(need.own_bytes for need in needs) + max(0, at_once, *each)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a job's request and files say of its size, without making a token."""

    folder: Path
    facts: ModelFacts
    shape: ModelShape
    rank: int
    dora: bool
    rows: int
    """Of one step, both answers of a pair counted."""
    longest: int
    """Tokens of a row at most: none is shorter than a byte."""
    num_bytes: int
    """Of its files."""


def _asked(ctx: RunContext) -> _Asked | None:
    """None where the job's model is gone."""
    job, options = ctx.job, options_of(ctx.job)
    record = ctx.models.get(job.parent_model) if job.parent_model else None
    if record is None or record.kind is not ModelKind.FULL:
        record = ctx.models.get(job.base)
    if record is None:
        return None
    folder = ctx.settings.resolve_model_path(record.path)
    facts = read_facts(folder, hashed=False)
    rows, longest, num_bytes = measure_lines([ctx.blobs.path(sha) for sha in (job.training_sha256, job.validation_sha256) if sha])
    batch_size = hyperparameters_of(job).batch_size or int(auto_batch_size(max(1, rows)).value)
    return _Asked(
        folder=folder,
        facts=facts,
        shape=shape_of(read_config(folder), facts),
        rank=options.rank or DEFAULT_RANK,
        dora=options.kind is LoraKind.DORA,
        rows=objective_kind(job).rows_per_example * batch_size,
        longest=min(longest + _TEMPLATE_TOKENS, int(resolve_max_length(options.max_length, facts.max_length).value)),
        num_bytes=num_bytes,
    )


def need_of(ctx: RunContext) -> Need:
    """An upper bound for a LoRA job on a CPU."""
    asked, options = _asked(ctx), options_of(ctx.job)
    if asked is None:
        return NOTHING
    shape, rank, dora, nf4 = asked.shape, asked.rank, asked.dora, options.quantization is not None
    trainable = shape.adapter_parameters(rank, dora=dora)
    best = options.keep is Keep.BEST or options.patience > 0
    beside = learning_bytes(trainable) + resume_bytes(trainable) + _BYTES_PER_FILE_BYTE * asked.num_bytes
    pairs = objective_kind(ctx.job).rows_per_example == 2
    return Need(
        base=asked.folder,
        quantization=options.quantization,
        base_bytes=weight_bytes(shape, nf4=nf4) + packed_bytes(shape, nf4=nf4),
        own_bytes=trainable * (8 if best else 4) + beside,
        activation_bytes=largest_forward(shape, asked.facts, rank=rank, rows=asked.rows, longest=asked.longest, dora=dora, pairs=pairs),
    )


def need_on_card(ctx: RunContext, card: DeviceMemory, precision: str) -> Need:
    """An upper bound for a job's tensors on a GPU, with an adapter or all weights in these numbers."""
    asked, options = _asked(ctx), options_of(ctx.job)
    if asked is None:
        return NOTHING
    full = options.adapter is TuningMethod.FULL
    job = CardJob(
        shape=asked.shape,
        full=full,
        rank=0 if full else asked.rank,
        dora=asked.dora and not full,
        width=width_of(precision, asked.shape, full=full),
        nf4=options.quantization is not None,
        pairs=objective_kind(ctx.job) is not ObjectiveKind.SUPERVISED,
    )
    again = bool(options.gradient_checkpointing)
    most = most_tokens_of(asked.facts, card_room(job, card.total_bytes).activation_bytes)

    def forward(rows: int) -> Micro:
        lengths = (asked.longest,) * max(1, min(rows, most // max(1, asked.longest)))
        return Micro(rows=len(lengths), longest=asked.longest, trained=sum(lengths), lengths=lengths if asked.shape.fast else ())

    return Need(
        base=ctx.run_dir if full else asked.folder,  # whose weights change shares them with nobody
        quantization=options.quantization,
        base_bytes=job.weights,
        own_bytes=WORKSPACE_BYTES + job.own + job.gradients,
        activation_bytes=job.step([forward(asked.rows)], several=True, recomputed=again) - job.gradients,
        joint_bytes=0 if full else job.activations(forward(most), recomputed=again),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A job at the door."""

    need: Need
    device: str | None
    """The GPU that it is placed on; None: the CPU, or no device that is here."""


class Admission:
    """The door of one training process: one job at a time, in the order in which they come.

    Args:
        process_bytes: resident memory of the process before its first model.
        queue: says whether anybody else trains.
        look: asks a GPU for its memory.
    """

    def __init__(self, process_bytes: int, queue: JobQueue, look: Callable[[str], DeviceMemory] = device_memory) -> None:
        self._process_bytes, self._queue, self._look = process_bytes, queue, look
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
            wish = self._wish(ctx)
            said = False
            while (short := self._lacking(ctx, wish)) is not None and self._queue.others_train(ctx.job.id):
                _obey(ctx)
                if not said:
                    ctx.recorder.add(NewEvent(created_at=int(ctx.now()), level="info", message=short))
                    said = True
                wait(LOOK_SECONDS)
            self._inside[ctx.job.id] = wish.need
        finally:
            self._door.release()

    def leave(self, job_id: str) -> None:
        """The job is over here."""
        self._inside.pop(job_id, None)

    def _wish(self, ctx: RunContext) -> _Wish:
        placement = _placement(ctx)
        if placement is None:
            return _Wish(need=NOTHING, device=None)
        if placement.device == "cpu":
            return _Wish(need=need_of(ctx), device=None)
        return _Wish(need=need_on_card(ctx, self._look(placement.device), placement.precision), device=placement.device)

    def _lacking(self, ctx: RunContext, wish: _Wish) -> str | None:
        """Why the job waits; None where it need not."""
        taken = together([*self._inside.values(), wish.need])
        if wish.device is None:
            taken, available = taken + self._process_bytes, available_memory(ctx.settings)
            where, there = "for memory", f"{available / 1e9:.1f} GB are available for training"
        else:
            card = self._look(wish.device)
            available = card.available_bytes
            where, there = f"for memory on {card.label}", f"{available / 1e9:.1f} GB are available for training there"
        if taken <= available:
            return None
        return (
            f"The job waits {where}: with it {taken / 1e9:.1f} GB may be needed, and {there}. It begins when a job that trains now is over."
        )


def _placement(ctx: RunContext) -> Placement | None:
    """Where the job will train, as ``start.decide`` or its first attempt has it; None where that device is not here."""
    known = read_spec(ctx.run_dir)
    pairs = objective_kind(ctx.job) is ObjectiveKind.DPO
    try:
        if known is not None:
            return placement_of(known[0])
        return training_placement(ctx.settings.device, ctx.settings.precision, options_of(ctx.job).adapter, pairs=pairs)
    except InvalidRequest:
        return None


def _obey(ctx: RunContext) -> None:
    if ctx.should_stop():
        raise Unavailable("The job was stopped while it waited for memory.")
