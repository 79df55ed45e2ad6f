"""What a run will do, step by step, before it does it: the loop's own order of batches, cut as the loop cuts them.

What it does: exact counts of steps and tokens, the shape of every forward of the first epoch and of every measurement. What it does
not: say how long any of it takes (``forecast.py``). Called by ``forecast.py``, ``dry_run.py``, ``card_memory.py`` and ``worker``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from luthier.core.specs import LoraKind, ObjectiveKind, TrainingSpec, TuningMethod
from luthier.models.facts import ModelFacts
from luthier.training.evaluate import base_rows, check_rows, forward_groups
from luthier.training.methods import read_beside
from luthier.training.packing import scores_all, step_forwards
from luthier.training.sft import Room
from luthier.training.tokens import TokenSource, examples_of, num_examples
from luthier.training.work import (
    UNPACKED_PER_SECOND,
    Micro,
    ModelShape,
    activation_bytes,
    dora_bytes,
    forward_bytes,
    forward_work,
    kernel_count,
    logits_at_once,
    micro_of,
    norm_work,
    step_work,
)

_MAX_PLANNED_ROWS = 200_000
"""Epochs are looked at one by one until so many rows are planned; those after are taken to be like these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One optimiser step."""

    indices: tuple[int, ...]
    """Of its token rows."""
    micros: tuple[Micro, ...]
    work: float
    """Floating-point operations, with those of ``ahead``."""
    ahead: tuple[Micro, ...] = ()
    """The forwards without gradients that come before these."""

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(micro.longest for micro in self.micros)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """A whole run."""

    shape: ModelShape
    spec: TrainingSpec
    examples: int
    tokens_per_epoch: int
    trained_per_epoch: int
    steps: tuple[PlannedStep, ...]
    """Of the first epochs, in the order in which they are carried out: all of them unless the file is large."""
    base: tuple[Micro, ...]
    """The forwards before the first step: those that measure the base, or those that measure the reference where there is one."""
    checks: tuple[tuple[Micro, ...], ...]
    """The forwards of each small validation."""
    epoch_end: tuple[Micro, ...]
    """The forwards of the whole validation at an epoch's end, and of the sample example."""
    epoch_ahead: tuple[Micro, ...]
    """The forwards that come before those, where the objective must know of all rows first."""
    sources: int
    """Held-out examples, or pairs."""

    @property
    def full(self) -> bool:
        """True where all weights learn."""
        return self.spec.method is TuningMethod.FULL

    @property
    def dora(self) -> bool:
        """True where the rows of adapted matrices have lengths that learn."""
        return self.spec.lora_kind is LoraKind.DORA and not self.full

    @property
    def norm_work(self) -> float:
        """Operations of each forward beside those of its tokens."""
        return norm_work(self.shape, self.spec.lora_rank) if self.dora else 0.0

    @property
    def narrow(self) -> bool:
        """True where the base is bfloat16 in memory."""
        return self.spec.precision == "bfloat16"

    @property
    def mixed(self) -> bool:
        """True where bfloat16 copies of float32 weights that learn are multiplied by."""
        return self.full and self.shape.fast and self.spec.precision == "mixed"

    @property
    def nf4(self) -> bool:
        """True where the base's linear layers are in 4 bits."""
        return self.spec.quantization is not None

    @property
    def unpacking_seconds(self) -> float:
        """What each forward takes to unpack the base, whatever its rows, and its way back once more."""
        return self.shape.layer_matrices / UNPACKED_PER_SECOND if self.nf4 else 0.0

    @property
    def makes_routines(self) -> bool:
        """True where the CPU library makes routines that stay: plain float32 with weights that learn goes past it."""
        return self.shape.fast and not (self.full and self.spec.precision == "float32")

    @property
    def packed(self) -> bool:
        """True where frozen matrices have copies in the CPU library's own layouts."""
        return not self.full and not self.narrow

    @property
    def trainable(self) -> int:
        """Numbers that learn."""
        spec = self.spec
        return self.shape.num_parameters if self.full else self.shape.adapter_parameters(spec.lora_rank, spec.targets, dora=self.dora)

    @property
    def at_once(self) -> int | None:
        """Positions whose logits exist together; None: all of a forward."""
        supervised = self.spec.objective is ObjectiveKind.SUPERVISED
        return logits_at_once(self.shape, supervised=supervised, on_cpu=self.spec.device == "cpu", full=self.full)

    def activations(self, micro: Micro) -> int:
        """Bytes that a forward and its backward take beside what the run holds."""
        rank, narrow = self.spec.lora_rank, self.narrow or self.mixed
        more = dora_bytes(micro, self.shape, rank=rank, narrow=narrow) if self.dora else 0
        recomputed = self.spec.gradient_checkpointing
        activations = activation_bytes(
            micro, self.shape, rank=rank, packed=self.packed, narrow=narrow, at_once=self.at_once, recomputed=recomputed
        )
        return more + activations

    def forward_activations(self, micro: Micro) -> int:
        """Bytes of a forward without gradients."""
        return forward_bytes(micro, self.shape, packed=self.packed, narrow=self.narrow or self.mixed, at_once=self.at_once)

    def kernels(self, steps: Sequence[Micro] | None = None, forwards: Sequence[Micro] | None = None) -> int:
        """Routines that the CPU library makes during the run, or until these steps and forwards are through."""
        steps = [micro for step in self.steps for micro in step.micros] if steps is None else steps
        forwards = self.forwards() if forwards is None else forwards
        # No product with a matrix that was unpacked to float32 goes through the library's own layouts.
        arithmetic = "nf4" if self.nf4 and self.spec.precision == "float32" else self.spec.precision
        return kernel_count(steps, forwards, arithmetic, self.at_once)

    @property
    def tried(self) -> tuple[PlannedStep, ...]:
        """The steps of a range test, each also read once on the model as it starts; a short file is read again."""
        return tuple(self.steps[at % len(self.steps)] for at in range(self.spec.range_steps))

    @property
    def first_epoch(self) -> tuple[PlannedStep, ...]:
        """The steps of the first epoch."""
        return self.steps[: self.spec.steps_per_epoch]

    def forwards(self) -> tuple[Micro, ...]:
        """Every forward without gradients that can occur."""
        ahead = (micro for step in self.steps for micro in step.ahead)
        return (*self.base, *ahead, *(micro for check in self.checks for micro in check), *self.epoch_ahead, *self.epoch_end)


def plan_run(
    spec: TrainingSpec,
    train: TokenSource,
    valid: TokenSource | None,
    facts: ModelFacts,
    shape: ModelShape,
    room: Room | None = None,
) -> Plan:
    """Lay out a run. Takes about as long as ordering the batches of its epochs. ``room``: of one forward; None: a CPU's."""
    full = spec.method is TuningMethod.FULL
    beside, valid_beside = (None if source is None else read_beside(spec, source) for source in (train, valid))
    # On a GPU rows lie end to end whether they are packed or not, those that are only read too.
    flat = spec.device != "cpu" and shape.fast
    shapes = partial(_shapes, facts=facts, room=room, flat=flat)
    ahead = partial(read_ahead, facts=facts, room=room, flat=flat)
    steps: list[PlannedStep] = []
    for epoch in range(1, spec.n_epochs + 1):
        if steps and len(train.examples) * epoch > _MAX_PLANNED_ROWS:
            break
        for indices in train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=epoch):
            groups = step_forwards(spec, indices, train, facts, room)
            sizes = {"end_to_end": spec.packing or flat, "all_scored": scores_all(spec)}
            micros = tuple(micro_of(group, train.examples, **sizes) for group in groups)
            before = ahead(beside, examples_of(train, indices))
            work = step_work(micros, shape, full=full) + sum(forward_work(micro, shape) for micro in before)
            steps.append(PlannedStep(indices=tuple(indices), micros=micros, work=work, ahead=before))
    checks: list[tuple[Micro, ...]] = []
    if valid is not None:
        for step in range(1, spec.total_steps + 1):
            rows = check_rows(step, spec, num_examples(valid))
            if rows is not None:
                checks.append((*ahead(valid_beside, rows), *shapes(valid, rows)))
    return Plan(
        shape=shape,
        spec=spec,
        examples=num_examples(train),
        tokens_per_epoch=sum(example.num_tokens for example in train.examples),
        trained_per_epoch=sum(example.rendered.num_trained for example in train.examples),
        steps=tuple(steps),
        base=_before(spec, (train, valid), (beside, valid_beside), shapes),
        checks=tuple(checks),
        epoch_end=(*(shapes(valid, None) if valid is not None else ()), *shapes(train, [0])),
        epoch_ahead=(*ahead(valid_beside, None), *ahead(beside, [0])),
        sources=0 if valid is None else num_examples(valid),
    )


def read_ahead(
    beside: TokenSource | None, examples: Sequence[int] | None, *, facts: ModelFacts, room: Room | None = None, flat: bool = False
) -> tuple[Micro, ...]:
    """The forwards before a step on some pairs, or before their measurement; None: of all.

    ``beside`` as ``methods.read_beside`` has it, ``room`` as ``plan_run``; ``flat``: rows lie end to end.
    """
    return () if beside is None else _shapes(beside, examples, facts=facts, room=room, flat=flat)


def _before(
    spec: TrainingSpec,
    sources: tuple[TokenSource, TokenSource | None],
    beside: Iterable[TokenSource | None],
    shapes: Callable[..., tuple[Micro, ...]],
) -> tuple[Micro, ...]:
    """A reference reads every pair, held-out ones too, and what is read beside them; and tells the base's numbers without another
    forward."""
    train, valid = sources
    if not spec.objective.has_reference:
        # As ``methods.base_measured_by``.
        return shapes(valid or train, base_rows(train, valid), all_scored=valid is None and scores_all(spec))
    return tuple(micro for source in (*sources, *beside) if source is not None for micro in shapes(source, None))


def _shapes(
    source: TokenSource, indices: Sequence[int] | None, *, facts: ModelFacts, room: Room | None, flat: bool, all_scored: bool = False
) -> tuple[Micro, ...]:
    groups = forward_groups(source, indices, facts, room, all_scored=all_scored)
    return tuple(micro_of(group, source.examples, end_to_end=flat, all_scored=all_scored) for group in groups)
