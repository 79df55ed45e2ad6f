"""How much arithmetic and how much memory a forward or a step takes, from the model's shape alone.

What it does: operations of a micro-batch; bytes of weights, gradients, moments, activations and logits. What it does not: measure
(``dry_run.py``) or put a forecast together (``forecast.py``). Pure. Called by ``plan.py``, ``forecast.py`` and ``dry_run.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.tokens import TokenizedExample
from luthier.models.decoder import LONG_ROW
from luthier.models.decoder_config import parse
from luthier.models.facts import ModelFacts
from luthier.models.linear_cross_entropy import last_rows, rows_at_once
from luthier.models.matrix import MAX_COPIED
from luthier.models.nf4 import BLOCK, SCALE_BLOCK
from luthier.models.row_counts import even_rows

_FLOAT, _NARROW = 4, 2
"""Bytes of a float32, in which gradients, moments and activations are kept."""
_NF4 = (4 + 8 / BLOCK + 32 / BLOCK / SCALE_BLOCK) / 8
"""Bytes of a number in 4 bits, with its part of the scales."""
UNPACKED_PER_SECOND = 1.4e9
"""Numbers that one thread unpacks from 4 bits to float32; measured with AVX512."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A model as far as its arithmetic goes. Of families that the fast decoder does not know some numbers are the usual ones."""

    num_parameters: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    q_size: int
    kv_size: int
    mlp_size: int
    tied_head: bool
    fast: bool
    """True where the fast decoder runs it."""
    qk_norm: bool = False
    """Heads of queries and keys are normed, each by itself."""

    @property
    def layer_matrices(self) -> int:
        """Numbers in the matrices of all blocks."""
        per_layer = self.hidden_size * (2 * self.q_size + 2 * self.kv_size + 3 * self.mlp_size)
        return self.num_layers * per_layer

    @property
    def block_matrices(self) -> tuple[int, ...]:
        """Numbers of each matrix of a block, fused as the fast decoder has them."""
        h = self.hidden_size
        return ((self.q_size + 2 * self.kv_size) * h, self.q_size * h, 2 * self.mlp_size * h, self.mlp_size * h)

    @property
    def head_matrix(self) -> int:
        """Numbers in the head."""
        return self.vocab_size * self.hidden_size

    @property
    def outputs(self) -> int:
        """Numbers that a block's matrices make of one token."""
        return self.q_size + 2 * self.kv_size + 2 * self.hidden_size + 2 * self.mlp_size

    def adapter_parameters(self, rank: int, targets: Sequence[str] = (), *, dora: bool = False) -> int:
        """Numbers of an adapter on these linear layers of the blocks, without names on all of them; ``dora``: with a length for each of
        their outputs."""
        h, q, kv, m = self.hidden_size, self.q_size, self.kv_size, self.mlp_size
        ends = {
            "q_proj": h + q,
            "k_proj": h + kv,
            "v_proj": h + kv,
            "o_proj": q + h,
            "gate_proj": h + m,
            "up_proj": h + m,
            "down_proj": m + h,
        }
        rows = {"q_proj": q, "k_proj": kv, "v_proj": kv, "o_proj": h, "gate_proj": m, "up_proj": m, "down_proj": h}
        named = {name.rpartition(".")[2] for name in targets}
        # Families with other names are forecast as if all layers were adapted.
        chosen = named if named and named <= ends.keys() else ends.keys()
        return self.num_layers * sum(rank * ends[name] + (rows[name] if dora else 0) for name in chosen)


def shape_of(config: dict[str, Any], facts: ModelFacts) -> ModelShape:
    """The shape of a model folder: exact for the fast decoder's families, else the usual proportions."""
    known = parse(config)
    hidden = facts.hidden_size
    return ModelShape(
        num_parameters=facts.num_parameters,
        vocab_size=facts.vocab_size,
        hidden_size=hidden,
        num_layers=facts.num_layers,
        num_heads=known.num_heads if known else max(1, hidden // 64),
        q_size=known.q_size if known else hidden,
        kv_size=known.kv_size if known else hidden,
        mlp_size=known.mlp_size if known else (8 * hidden) // 3,
        tied_head=known.tied_head if known else True,
        fast=known is not None,
        qk_norm=known is not None and known.qk_norm,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Micro:
    """One forward's rows."""

    rows: int
    longest: int
    """Tokens of the longest row: side by side all are padded to it."""
    trained: int
    """Positions whose logits are computed."""
    lengths: tuple[int, ...] = ()
    """Tokens of each row where rows lie end to end; empty where they are padded."""

    @property
    def padded(self) -> int:
        """Tokens with padding, where there is any; on a CPU to an even width."""
        return sum(self.lengths) or self.rows * even_rows(self.longest)

    @property
    def tokens(self) -> int:
        """Tokens with the padding to the longest row, where there is any, and not with that for the sake of even widths."""
        return sum(self.lengths) or self.rows * self.longest

    @property
    def pairs(self) -> int:
        """Pairs of tokens that attention looks at, masked ones included."""
        return sum(length * length for length in self.lengths) or self.tokens * self.longest


def micro_of(group: Sequence[int], examples: Sequence[TokenizedExample], *, end_to_end: bool = False, all_scored: bool = False) -> Micro:
    """The shape of some examples in one forward, side by side or end to end. ``all_scored``: as ``sft.micro_batches`` has it."""
    chosen = [examples[index] for index in group]
    lengths = tuple(e.num_tokens for e in chosen)
    trained = sum(lengths) if all_scored else sum(e.rendered.num_trained for e in chosen)
    return Micro(rows=len(chosen), longest=max(lengths), trained=trained, lengths=lengths if end_to_end else ())


def forward_work(micro: Micro, shape: ModelShape) -> float:
    """Floating-point operations of one forward, without those for the sake of even widths."""
    attention = 4.0 * micro.pairs * shape.q_size * shape.num_layers
    return 2.0 * micro.tokens * shape.layer_matrices + attention + 2.0 * micro.trained * shape.head_matrix


def step_work(micros: Sequence[Micro], shape: ModelShape, *, full: bool) -> float:
    """Floating-point operations of a step's forwards and backwards: weights that stay frozen need no gradient of their own."""
    return sum(forward_work(micro, shape) * (3.0 if full else 2.0) for micro in micros)


def norm_work(shape: ModelShape, rank: int) -> float:
    """Floating-point operations by which DoRA finds the lengths of all rows, in each forward (``models/dora.py``): every matrix times its
    adapter's A, as for so many more tokens."""
    return 2.0 * rank * shape.layer_matrices


def weight_bytes(shape: ModelShape, *, bytes_per_weight: int = _FLOAT, nf4: bool = False) -> int:
    """The weights in memory.

    ``nf4``: those of the blocks are in 4 bits, and the largest one is there unpacked too, while it is read or multiplied by. The general
    path reads the whole base before it packs it, and a peak is what counts here.
    """
    if not nf4 or not shape.fast:
        return shape.num_parameters * bytes_per_weight
    rest = shape.num_parameters - shape.layer_matrices
    return rest * bytes_per_weight + int(shape.layer_matrices * _NF4) + max(shape.block_matrices) * _FLOAT


def packed_bytes(shape: ModelShape, *, nf4: bool = False) -> int:
    """The copies in another layout that frozen matrices get on the CPU (``models/matrix.py``): one for each direction. Those in 4 bits
    get none."""
    if not shape.fast:
        return 0
    copied = 0 if nf4 else shape.num_layers * sum(size for size in shape.block_matrices if size <= MAX_COPIED)
    if shape.head_matrix <= MAX_COPIED:
        copied += shape.head_matrix
    return 2 * copied * _FLOAT


def learning_bytes(trainable: int) -> int:
    """Gradients and AdamW's two moments."""
    return 3 * trainable * _FLOAT


def resume_bytes(trainable: int) -> int:
    """The copy of weights and moments that a resume state is written from, beside the step."""
    return 3 * trainable * _FLOAT


def fixed_bytes(
    shape: ModelShape,
    *,
    trainable: int,
    full: bool,
    keeps_best: bool = False,
    narrow: bool = False,
    mixed: bool = False,
    nf4: bool = False,
) -> int:
    """What the whole run holds beside the process itself: weights, their copies, gradients, moments, a state being written, and a copy
    of the best epoch's weights where that is to be kept. ``narrow``: the base is bfloat16; ``mixed``: float32 weights have bfloat16 copies;
    ``nf4``: the base's linear layers are in 4 bits.
    """
    base = weight_bytes(shape, bytes_per_weight=2 if narrow else 6 if mixed else 4, nf4=nf4)
    beside = 0 if full else trainable * 4 + (0 if narrow else packed_bytes(shape, nf4=nf4))
    weights = base + beside + (trainable * 4 if keeps_best else 0)
    return weights + learning_bytes(trainable) + resume_bytes(trainable)


def activation_bytes(
    micro: Micro,
    shape: ModelShape,
    *,
    rank: int,
    packed: bool,
    narrow: bool = False,
    at_once: int | None = None,
    recomputed: bool = False,
) -> int:
    """What the forward keeps for the backward, the backward's own work space, and the logits with their gradient.

    ``packed``: frozen weights go through the CPU library's own layouts (``models/matrix.py``), which takes work space for the head.
    ``narrow``: the blocks' numbers are bfloat16; logits are widened all the same. ``at_once``: positions whose logits exist together
    (``models/linear_cross_entropy.py``); None: all. ``recomputed``: of each block its input alone is kept, and one block's values are made
    again at a time.
    """
    c, tokens = shape, micro.padded
    per_token = 6 * c.hidden_size + 3 * c.q_size + 2 * c.kv_size + 3 * c.mlp_size + 7 * rank
    long = micro.longest > LONG_ROW or not c.fast or bool(micro.lengths)
    if long:  # ordinary operators: autograd keeps what the hand-written gradient computes again
        per_token += 2 * c.hidden_size + 2 * (c.q_size + c.kv_size) + c.mlp_size + 5 * rank
    # Rows end to end go through torch's own attention, which keeps no matrix of scores.
    scores = micro.rows * c.num_heads * micro.longest**2 if (micro.longest <= LONG_ROW and not micro.lengths) or not c.fast else 0
    block = tokens * per_token + scores
    # Half a block more where blocks are made again, as measured on the embedded base.
    kept = 3 * block // 2 + c.num_layers * tokens * c.hidden_size if recomputed else c.num_layers * block
    space = tokens * (4 * c.hidden_size + 4 * c.mlp_size + 3 * c.q_size) + 3 * scores
    return (kept + space) * (_NARROW if narrow else _FLOAT) + (3 + _head_space(shape, packed)) * _logits(micro, shape, at_once) * _FLOAT


def logits_at_once(shape: ModelShape, *, supervised: bool, on_cpu: bool, full: bool) -> int | None:
    """Positions whose logits exist together in training; None: all of a forward."""
    return rows_at_once(shape.vocab_size, shape.hidden_size, on_cpu=on_cpu, trains=full) if shape.fast and supervised else None


def dora_bytes(micro: Micro, shape: ModelShape, *, rank: int, narrow: bool = False) -> int:
    """What DoRA takes in a step beyond LoRA of the same rank: each output as it was before its length changed, work space of four times the
    widest output (measured on the embedded base), and that in which the lengths of one kind of matrix are found in all layers at once."""
    widest = max(2 * shape.mlp_size, shape.q_size + 2 * shape.kv_size)
    kept = micro.padded * (shape.num_layers * shape.outputs + 4 * widest) * (_NARROW if narrow else _FLOAT)
    if not shape.fast:  # peft makes the changed matrix itself, one at a time
        return kept + 4 * shape.hidden_size * max(shape.hidden_size, shape.mlp_size) * _FLOAT
    return kept + 5 * shape.num_layers * rank * max(shape.mlp_size, shape.q_size, shape.kv_size, shape.hidden_size) * _FLOAT


def forward_bytes(micro: Micro, shape: ModelShape, *, packed: bool, narrow: bool = False, at_once: int | None = None) -> int:
    """The largest of a forward without gradients: one block's values and the logits. Arguments as ``activation_bytes``."""
    c, tokens = shape, micro.padded
    scores = 2 * micro.rows * c.num_heads * micro.longest**2 if micro.longest <= LONG_ROW or not c.fast else 0
    block = tokens * (6 * c.hidden_size + 3 * c.q_size + 2 * c.kv_size + 4 * c.mlp_size) + scores
    return block * (_NARROW if narrow else _FLOAT) + (2 + _head_space(shape, packed)) * _logits(micro, shape, at_once) * _FLOAT


def _logits(micro: Micro, shape: ModelShape, at_once: int | None) -> int:
    return (micro.trained if at_once is None else min(micro.trained, at_once)) * shape.vocab_size


def _head_space(shape: ModelShape, packed: bool) -> int:
    """Further copies of the logits' size, as measured on a head of 9.2 million numbers."""
    return 2 if packed and shape.fast and shape.head_matrix <= MAX_COPIED else 0


_ROUTINES = {"float32": (4, 4), "bfloat16": (24, 14), "mixed": (12, 6), "nf4": (0, 0)}
"""Per number of padded tokens in a block, by precision: those of a step that learns beyond those of a forward, and those of a forward. In
float32 only the products with frozen matrices go through oneDNN, and none with one that was unpacked from 4 bits; in bfloat16 all do, an
adapter's and attention's too."""
_CACHED_KERNELS = 1024
"""oneDNN keeps so many routines (its ``DNNL_PRIMITIVE_CACHE_CAPACITY``) and forgets the oldest."""
KERNEL_BYTES = 500_000
"""Of one routine: measured on the embedded base as 3.5 MB for each new number of padded tokens and eight routines with AVX2, 21 MB and 38
routines with AMX."""


def kernel_count(steps: Sequence[Micro], forwards: Sequence[Micro], precision: str = "float32", at_once: int | None = None) -> int:
    """Routines that oneDNN makes, one for each product and number of rows, alike in all blocks; the head has one for each direction.
    ``at_once`` as in ``activation_bytes``."""
    steps = [m for m in steps if not m.lengths]  # rows end to end do not go through the library's own layouts
    learned, read = {m.padded for m in steps}, {m.padded for m in (*steps, *forwards)}
    learned_heads, read_heads = _head_rows(steps, at_once), _head_rows((*steps, *forwards), at_once)
    learning, reading = _ROUTINES[precision]
    return min(_CACHED_KERNELS, learning * len(learned) + reading * len(read) + len(learned_heads) + len(read_heads))


def _head_rows(micros: Sequence[Micro], at_once: int | None) -> set[int]:
    if at_once is None:
        return {even_rows(m.trained) for m in micros}
    whole = {at_once} if any(m.trained >= at_once for m in micros) else set()
    return whole | {last_rows(m.trained % at_once) for m in micros if m.trained % at_once}
