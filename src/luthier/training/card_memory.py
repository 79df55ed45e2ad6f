"""What a run takes of a GPU's memory, from the model's shape and the rows' lengths alone.

What it does: bytes of weights, of what learns, and of a forward with its backward whose rows lie end to end; the peak of a planned run, and
the least that it can be cut to. What it does not: ask a device (``worker/machine.py`` does), or know a CPU (``work.py`` and ``forecast.py``
do). Pure. Called by ``cures.py``, ``worker/admission.py``, ``worker/forecasting.py`` and ``worker/forecast_child.py``.

The numbers of a block are those that autograd keeps of ``models/flat.py``, counted operator by operator; a test adds up what lives during a
real step on a device without numbers. What the library's own kernels take is counted by hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.core.forecast import Basis, Span
from luthier.core.specs import LoraKind, ObjectiveKind, TrainingSpec, TuningMethod
from luthier.models.linear_cross_entropy import rows_at_once
from luthier.models.rounding import at_once_on
from luthier.training.forecast import spread_bytes
from luthier.training.packing import scores_all
from luthier.training.plan import Plan
from luthier.training.sft import Room, room_within
from luthier.training.tokens import TokenSource
from luthier.training.work import Micro, ModelShape, activation_bytes, dora_bytes, forward_bytes, learning_bytes, micro_of, weight_bytes

_FLOAT, _NARROW = 4, 2
WORKSPACE_BYTES = 1 << 25
"""Of cuBLAS, out of torch's own memory: 32 MiB on a Hopper, 8 on others."""
_LONGEST = 16
"""So many of the longest rows are looked at for the one that takes most alone: of two like ones the one with more trained tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardJob:
    """How a run lies on a GPU."""

    shape: ModelShape
    full: bool = False
    """All weights learn, and are float32."""
    rank: int = 0
    targets: tuple[str, ...] = ()
    dora: bool = False
    width: int = _NARROW
    """Bytes of a number between the weights, and of the base where it is frozen."""
    nf4: bool = False
    pairs: bool = False
    """Losses of pairs, whose logits are made once more on the way back: no piece of them outlives the next."""

    @property
    def trainable(self) -> int:
        """Numbers that learn."""
        return self.shape.num_parameters if self.full else self.shape.adapter_parameters(self.rank, self.targets, dora=self.dora)

    @property
    def weights(self) -> int:
        """The base."""
        return weight_bytes(self.shape, bytes_per_weight=self.base_width, nf4=self.nf4)

    @property
    def base_width(self) -> int:
        """Bytes of a number of the base."""
        return _FLOAT if self.full else self.width

    @property
    def _rounded(self) -> bool:
        """Mixed precision: weights have more bits than what lies between them."""
        return self.width < self.base_width

    @property
    def gradients(self) -> int:
        """Of all that learns."""
        return self.trainable * _FLOAT

    @property
    def own(self) -> int:
        """What the run holds beside base and gradients: two moments, an adapter, and its fused form in the base's numbers; the head as it
        is multiplied by, where that is rounded."""
        moments = learning_bytes(self.trainable) - self.gradients
        if self.full:
            return moments + (self.shape.head_matrix * self.width if self._rounded else 0)
        return moments + self.trainable * _FLOAT + self._fused()

    def _fused(self) -> int:
        """Stacked A and block-diagonal B of each group of projections (``models/lora.py``)."""
        c = self.shape
        h, q, kv, m = c.hidden_size, c.q_size, c.kv_size, c.mlp_size
        ends = 3 * (h + q + 2 * kv) + (q + h) + 2 * (h + 2 * m) + (m + h)
        return c.num_layers * self.rank * ends * self.width if c.fast else 0

    def activations(self, micro: Micro, *, recomputed: bool = False) -> int:
        """The most that a forward and its backward take beside all that is held. ``recomputed``: blocks are made again on the way back."""
        c = self.shape
        if not c.fast:
            narrow, rank = self.width == _NARROW, self.rank
            more = dora_bytes(micro, c, rank=rank, narrow=narrow) if self.dora else 0
            return more + activation_bytes(micro, c, rank=rank, packed=False, narrow=narrow, recomputed=recomputed) + self._ends(micro)
        tokens = micro.padded
        block = self._block(micro)
        inputs = c.num_layers * tokens * c.hidden_size * self.width
        back = self._back(micro, recomputed=recomputed)
        if recomputed:
            return inputs + max(block + back, self._logits(micro)) + self._ends(micro)
        return c.num_layers * block + max(back, self._logits(micro)) + self._ends(micro)

    def _block(self, micro: Micro) -> int:
        """What one block keeps for its backward."""
        c, tokens = self.shape, micro.padded
        h, q, kv, m = c.hidden_size, c.q_size, c.kv_size, c.mlp_size
        # Input, what is between attention and MLP, both normed; q, k, v and attention's output; gate and up, silu, their product.
        numbers = 4 * h + 2 * q + 2 * kv + 4 * m + 7 * self.rank
        if c.qk_norm:  # the projection as it was before its heads were normed
            numbers += q + 2 * kv
        if self._rounded:  # what norms multiply by their weights
            numbers += 2 * h + (q + kv if c.qk_norm else 0)
        if self.dora:  # outputs before their lengths changed
            numbers += c.outputs
        scores = 0
        if self._keeps_scores:
            numbers += 2 * q
            scores = c.num_heads * micro.pairs
        factors = tokens * 2 * (c.num_heads + 1) * _FLOAT  # of norms, and attention's sums
        return (tokens * numbers + scores) * self.width + factors

    @property
    def _keeps_scores(self) -> bool:
        """Float32 attention with fewer heads of keys than of queries has no routine that leaves the (T, T) matrix out."""
        return self.width == _FLOAT and self.shape.kv_size < self.shape.q_size

    def _back(self, micro: Micro, *, recomputed: bool) -> int:
        """Work space of one block's backward: of the MLP, or of attention, with sums in float32 and keys spread over all heads.

        What a block kept is given back meanwhile, the MLP's product when its gradient is there and all of the MLP's before attention; what
        was made again is held to the end.
        """
        c, tokens = self.shape, micro.padded
        mlp = tokens * 3 * (c.hidden_size + c.mlp_size) * self.width
        attention = tokens * (c.q_size * _FLOAT + (3 * c.q_size + 2 * c.kv_size + 2 * c.hidden_size) * self.width)
        if self._keeps_scores:
            attention += 2 * c.num_heads * micro.longest**2 * self.width
        if not recomputed:
            mlp -= tokens * (2 * c.hidden_size + c.mlp_size) * self.width
            attention -= tokens * (c.hidden_size + 4 * c.mlp_size) * self.width
        return max(mlp, attention) + self._rounding()

    def _rounding(self) -> int:
        """Where a matrix that learns is rounded: itself as it is multiplied by, or its gradient before that is float32, and sums."""
        largest = max(self.shape.block_matrices)
        return largest * self.width + min(largest, at_once_on("cuda")) * _FLOAT if self._rounded else 0

    def _logits(self, micro: Micro) -> int:
        """The piece of the logits that exists, with what is made of it."""
        at_once = rows_at_once(self.shape.vocab_size, self.shape.hidden_size, on_cpu=False, trains=self.full)
        # As float32, over which everything else is written, and in the base's numbers; losses of pairs are made by autograd.
        each = 3 * _FLOAT if self.pairs else _FLOAT + (0 if self.width == _FLOAT else self.width)
        return min(micro.trained, at_once) * self.shape.vocab_size * each

    def _ends(self, micro: Micro) -> int:
        """Chosen positions, normed, and their gradient; and that of a head that learns."""
        chosen = 3 * micro.trained * self.shape.hidden_size * self.width
        return chosen + (self.shape.head_matrix * _FLOAT if self.full else 0)

    def reading(self, micro: Micro) -> int:
        """The most that a forward without gradients takes."""
        c, tokens = self.shape, micro.padded
        if not c.fast:
            return forward_bytes(micro, c, packed=False, narrow=self.width == _NARROW)
        block = tokens * (3 * c.hidden_size + 3 * c.q_size + 3 * c.kv_size + 4 * c.mlp_size) * self.width
        scores = 3 * c.num_heads * micro.longest**2 * self.width if self._keeps_scores else 0
        return max(block + scores, self._logits(micro)) + tokens * c.hidden_size * self.width

    def step(self, micros: Sequence[Micro], *, several: bool, recomputed: bool = False) -> int:
        """The most of a step beside all that is held. ``several``: it has more forwards than one, so that gradients are there."""
        largest = max(self.activations(micro, recomputed=recomputed) for micro in micros)
        # A tied head gets gradients from both of its ends, and their sum; where it has one already all are there beside it.
        heads = (2 if self.shape.tied_head else 0) + several if self.full else 0
        back = max(micro.padded for micro in micros) * self.shape.hidden_size * (_FLOAT + self.width) if self.full else 0
        late = self.gradients + self.shape.head_matrix * _FLOAT * heads + back
        return max(late, largest + (self.gradients if several else 0))


def width_of(precision: str, shape: ModelShape, *, full: bool) -> int:
    """Bytes of a number between the weights. What a family of the general path keeps in mixed precision is bounded by float32."""
    return _NARROW if precision == "bfloat16" or (precision == "mixed" and full and shape.fast) else _FLOAT


def card_job(spec: TrainingSpec, shape: ModelShape) -> CardJob:
    """The run that the spec describes."""
    full = spec.method is TuningMethod.FULL
    return CardJob(
        shape=shape,
        full=full,
        rank=spec.lora_rank,
        targets=spec.targets,
        dora=spec.lora_kind is LoraKind.DORA and not full,
        width=width_of(spec.precision, shape, full=full),
        nf4=spec.quantization is not None,
        pairs=spec.objective is not ObjectiveKind.SUPERVISED,
    )


def card_room(job: CardJob, total_bytes: int) -> Room:
    """What one forward may take on a card with so much memory, as ``sft.room_on`` finds it from the model itself."""
    c = job.shape
    parameters = c.num_parameters - (c.layer_matrices if job.nf4 else 0)
    return room_within(total_bytes, parameters * job.base_width, flat=c.fast)


def card_peak(plan: Plan) -> int:
    """Most bytes that tensors take during the run, cut as the plan says."""
    job, again = card_job(plan.spec, plan.shape), plan.spec.gradient_checkpointing
    steps = max(job.step(step.micros, several=len(step.micros) > 1, recomputed=again) for step in plan.steps)
    reading = max(job.reading(micro) for micro in plan.forwards())
    return WORKSPACE_BYTES + job.weights + job.own + max(steps, reading)


def card_least(job: CardJob, alone: Sequence[Micro], *, several: bool) -> int:
    """Bytes of the run where each row (or pair) lies alone and blocks are made again, which is the smallest that the loop cuts it to.

    Args:
        job: the run.
        alone: forwards of one row each; at least one.
        several: a step has more than one.
    """
    return WORKSPACE_BYTES + job.weights + job.own + job.step(alone, several=several, recomputed=True)


def longest_alone(spec: TrainingSpec, shape: ModelShape, source: TokenSource) -> list[Micro]:
    """The forwards of the longest rows (pairs), each alone."""
    each = source.rows_per_example
    sums = source.lengths.reshape(-1, each).sum(axis=1)
    chosen = np.argsort(-sums, kind="stable")[:_LONGEST].tolist()
    groups = [range(example * each, (example + 1) * each) for example in chosen]
    return [micro_of(group, source.examples, end_to_end=shape.fast, all_scored=scores_all(spec)) for group in groups]


def card_forecast(plan: Plan, source: TokenSource, available_bytes: int) -> Span:
    """The peak of the run's tensors, with its interval. Where it is above what there is the loop cuts its steps smaller: then it is what
    there is, or the least that they can be cut to."""
    job = card_job(plan.spec, plan.shape)
    peak = card_peak(plan)
    if peak > available_bytes:
        least = card_least(job, longest_alone(plan.spec, plan.shape, source), several=plan.spec.batch_size > 1)
        peak = max(least, available_bytes)
    return spread_bytes(peak, Basis.FORMULA)
