"""What would make a job fit into the memory that there is: each change computed with the same arithmetic that refused the job.

What it does: a smaller ``max_length``, adapters instead of all weights, a smaller rank, fewer rows at once, blocks made again on the way
back, a base in 4 bits, and two of them together where one is not enough. On a GPU, where a step that does not fit is cut smaller by itself,
what counts is the longest row alone, so that fewer rows at once are no cure there. What it does not: change anything. Pure. Called by
``worker/forecasting.py``.
"""

from dataclasses import dataclass, replace

from luthier.core.quantization import NF4
from luthier.core.specs import Keep, LoraKind, TrainingSpec, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.facts import ModelFacts
from luthier.training.card_memory import CardJob, card_job, card_least
from luthier.training.forecast import LOADED_CODE
from luthier.training.packing import scores_all
from luthier.training.resolve import DEFAULT_RANK
from luthier.training.sft import ACTIVATION_BYTES, Room, micro_batches
from luthier.training.tokens import TokenSource
from luthier.training.work import ModelShape, activation_bytes, dora_bytes, fixed_bytes, logits_at_once, micro_of

_LEAST_LENGTH = 32
_LENGTHS_PER_DOUBLING = 4
"""``max_length`` is suggested as one of so many round numbers between a power of two and the next."""
_LEAST_RANK = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Cure:
    """One set of changes with which the job would fit."""

    changes: tuple[tuple[str, str], ...]
    """(field of the request, its new value)."""
    peak_bytes: int

    def sentence(self) -> str:
        """As a person would write it: ``max_length 512 (1.2 GB)``."""
        return f"{' and '.join(f'{name} {value}' for name, value in self.changes)} ({self.peak_bytes / 1e9:.1f} GB)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """A way to run the job."""

    full: bool
    rank: int
    batch_size: int
    max_length: int
    recomputed: bool
    nf4: bool


def cures(
    spec: TrainingSpec,
    train: TokenSource,
    facts: ModelFacts,
    shape: ModelShape,
    *,
    process_bytes: int,
    available_bytes: int,
    factor: float,
    packs: bool,
) -> tuple[Cure, ...]:
    """Single changes that make the job fit; where none does, pairs of them; empty where nothing here helps.

    Args:
        spec, train, facts, shape: the job as it was asked for.
        process_bytes: what the process holds without the model; 0 on a GPU.
        available_bytes: what it may hold, or its tensors on the GPU.
        factor: by which the arithmetic is multiplied before it is compared, as in the refusal.
        packs: the server can hold a base in 4 bits.
    """
    asked = _Setting(
        full=spec.method is TuningMethod.FULL,
        rank=spec.lora_rank,
        batch_size=spec.batch_size,
        max_length=spec.max_length,
        recomputed=spec.gradient_checkpointing,
        nf4=spec.quantization is not None,
    )
    search = _Search(train, facts, shape, process_bytes, available_bytes, factor, spec)
    adapter = replace(asked, full=False, rank=DEFAULT_RANK) if asked.full else asked
    tries = [adapter] if asked.full else _ranks(asked)
    if not asked.recomputed and search.on_cpu:
        tries.append(replace(asked, recomputed=True))
    packed = [replace(adapter, nf4=True)] if packs and not asked.nf4 else []
    ways = [search.shorter(asked), search.fewer_rows(asked), *(search.check(setting) for setting in tries)]
    if not asked.full:  # all weights cannot learn in 4 bits: there it takes two changes
        ways += [search.check(setting) for setting in packed]
    found = tuple(_cure(asked, *way) for way in ways if way is not None)
    if found:
        return found
    one = replace(asked, batch_size=1)
    for setting in (*packed, *tries, one, *(replace(s, batch_size=1) for s in (*packed, *tries))):
        way = (search.check(setting) if asked.full else None) or search.shorter(setting) or search.fewer_rows(setting)
        if way is not None:
            return (_cure(asked, *way),)
    return ()


def _ranks(asked: _Setting) -> list[_Setting]:
    """The largest rank first; ranks below 4 teach too little to be worth a suggestion."""
    ranks = []
    rank = asked.rank // 2
    while rank >= _LEAST_RANK:
        ranks.append(replace(asked, rank=rank))
        rank //= 2
    return ranks[:1] if len(ranks) < 2 else [ranks[0], ranks[-1]]


def _cure(asked: _Setting, setting: _Setting, peak: int) -> Cure:
    changes: list[tuple[str, str]] = []
    if setting.full != asked.full:
        changes.append(("adapter", '"lora"'))
    elif setting.rank != asked.rank:
        changes.append(("rank", str(setting.rank)))
    if setting.nf4 != asked.nf4:
        changes.append(("quantization", f'"{NF4}"'))
    if setting.recomputed != asked.recomputed:
        changes.append(("gradient_checkpointing", "true"))
    if setting.batch_size != asked.batch_size:
        changes.append(("batch_size", str(setting.batch_size)))
    if setting.max_length != asked.max_length:
        changes.append(("max_length", str(setting.max_length)))
    return Cure(changes=tuple(changes), peak_bytes=peak)


class _Search:
    """Peaks of other ways to run the job."""

    def __init__(
        self, train: TokenSource, facts: ModelFacts, shape: ModelShape, process: int, available: int, factor: float, spec: TrainingSpec
    ) -> None:
        self._examples = sorted(train.examples, key=lambda example: -example.num_tokens)
        self._each = train.rows_per_example
        self._facts, self._shape = facts, shape
        self._process, self._available, self._factor = process, available, factor
        self._keeps_best, self._packing, self._all_scored = spec.keep is Keep.BEST, spec.packing, scores_all(spec)
        self._dora = spec.method is TuningMethod.LORA and spec.lora_kind is LoraKind.DORA
        # Where all weights learn in mixed precision, an adapter would learn over a bfloat16 base.
        self._narrow = spec.precision != "float32"
        self.on_cpu = spec.device == "cpu"
        self._as_asked = spec

    def check(self, setting: _Setting) -> tuple[_Setting, int] | None:
        """The setting with its peak, when it fits."""
        peak = self._peak(setting)
        return (setting, peak) if peak * self._factor <= self._available else None

    def shorter(self, setting: _Setting) -> tuple[_Setting, int] | None:
        """The longest round ``max_length`` below the longest row that fits."""
        for length in _round_lengths(min(setting.max_length, self._examples[0].num_tokens)):
            if any(example.rendered.weights_T[:length].any() for example in self._examples):
                way = self.check(replace(setting, max_length=length))
                if way is not None:
                    return way
        return None

    def fewer_rows(self, setting: _Setting) -> tuple[_Setting, int] | None:
        """The largest half, quarter, ... of the batch size that fits."""
        size = setting.batch_size // 2 if self.on_cpu else 0
        while size >= 1:
            way = self.check(replace(setting, batch_size=size))
            if way is not None:
                return way
            size //= 2
        return None

    def _peak(self, setting: _Setting) -> int:
        return self._on_the_cpu(setting) if self.on_cpu else self._on_a_card(setting)

    def _on_a_card(self, setting: _Setting) -> int:
        """With the longest row, or pair, alone and blocks made again."""
        each, job = self._each, self._card_job(setting)
        rows = [_cut(example, setting.max_length) for example in self._examples[: 16 * each]]
        # With pairs the two longest rows stand for the longest pair: never too little.
        groups = [range(at, at + each) for at in range(0, len(rows) - each + 1, each)]
        alone = [micro_of(group, rows, end_to_end=self._shape.fast, all_scored=self._all_scored) for group in groups]
        return self._process + card_least(job, alone, several=setting.batch_size > 1)

    def _card_job(self, setting: _Setting) -> CardJob:
        # An adapter in place of all weights learns over a bfloat16 base, as ``models/device.py`` decides.
        now = card_job(self._as_asked, self._shape)
        width = 2 if now.full and not setting.full else now.width
        return replace(now, full=setting.full, rank=setting.rank, nf4=setting.nf4, width=width)

    def _on_the_cpu(self, setting: _Setting) -> int:
        """With the longest rows side by side, which some epoch may bring."""
        c, rank = self._shape, 0 if setting.full else setting.rank
        trainable = c.num_parameters if setting.full else c.adapter_parameters(rank, dora=self._dora)
        # Forwards are bounded: the longest rows of some batches make the largest one.
        rows = [_cut(example, setting.max_length) for example in self._examples[: max(64, setting.batch_size * self._each)]]
        rows = [row for row in rows if row.rendered.num_trained]
        largest, narrow, mixed = 0, self._narrow and not setting.full, self._narrow and setting.full and c.fast
        at_once = logits_at_once(c, supervised=self._each == 1, on_cpu=True, full=setting.full)
        packed = not setting.full and not narrow
        # In their order instead of best fit: as full, or nearly.
        room = Room(ACTIVATION_BYTES, padded=False, most_logits=None) if self._packing else None
        # With pairs the two longest rows stand for the longest pair: never too little.
        size = setting.batch_size * self._each
        for at in range(0, len(rows), size):
            chosen = range(at, min(len(rows), at + size))
            cut = micro_batches(list(chosen), rows, self._facts, room, rows_per_example=self._each, all_scored=self._all_scored)
            for group in cut:
                micro = micro_of(group, rows, end_to_end=self._packing, all_scored=self._all_scored)
                more = dora_bytes(micro, c, rank=rank, narrow=narrow) if self._dora else 0
                taken = activation_bytes(
                    micro, c, rank=rank, packed=packed, narrow=narrow or mixed, at_once=at_once, recomputed=setting.recomputed
                )
                largest = max(largest, more + taken)
        fixed = fixed_bytes(
            c,
            trainable=trainable,
            full=setting.full,
            keeps_best=self._keeps_best,
            narrow=narrow,
            mixed=mixed,
            nf4=setting.nf4,
        )
        return self._process + LOADED_CODE + fixed + largest


def _round_lengths(below: int) -> list[int]:
    """Round lengths, the longest first."""
    lengths: set[int] = set()
    power = _LEAST_LENGTH
    while power < below:
        lengths |= {power + power * part // _LENGTHS_PER_DOUBLING for part in range(_LENGTHS_PER_DOUBLING)}
        power *= 2
    return sorted((length for length in lengths if length < below), reverse=True)


def _cut(example: TokenizedExample, length: int) -> TokenizedExample:
    if example.num_tokens <= length:
        return example
    rendered = example.rendered
    return TokenizedExample(source=example.source, rendered=Rendered(ids_T=rendered.ids_T[:length], weights_T=rendered.weights_T[:length]))
