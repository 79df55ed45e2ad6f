"""What would make a job fit into the memory that there is: each change computed with the same arithmetic that refused the job.

What it does: a smaller ``max_length``, adapters instead of all weights, a smaller rank, fewer rows at once, blocks made again on the way
back, and two of them together where one is not enough. What it does not: change anything. Pure. Called by ``worker/forecasting.py``.
"""

from dataclasses import dataclass, replace

from luthier.core.specs import Keep, LoraKind, TrainingSpec, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.facts import ModelFacts
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


def cures(
    spec: TrainingSpec, train: TokenSource, facts: ModelFacts, shape: ModelShape, *, process_bytes: int, available_bytes: int, factor: float
) -> tuple[Cure, ...]:
    """Single changes that make the job fit; where none does, pairs of them; empty where nothing here helps.

    Args:
        spec, train, facts, shape: the job as it was asked for.
        process_bytes: what the process holds without the model.
        available_bytes: what it may hold.
        factor: by which the arithmetic is multiplied before it is compared, as in the refusal.
    """
    asked = _Setting(
        full=spec.method is TuningMethod.FULL,
        rank=spec.lora_rank,
        batch_size=spec.batch_size,
        max_length=spec.max_length,
        recomputed=spec.gradient_checkpointing,
    )
    search = _Search(train, facts, shape, process_bytes, available_bytes, factor, spec)
    tries = [("lora", replace(asked, full=False, rank=DEFAULT_RANK))] if asked.full else _ranks(asked)
    found: list[Cure] = []
    if not asked.recomputed:
        tries.append(("gradient_checkpointing", replace(asked, recomputed=True)))
    for way in (search.shorter(asked), search.fewer_rows(asked), *(search.check(setting) for _, setting in tries)):
        if way is not None:
            found.append(_cure(asked, *way))
    if found:
        return tuple(found)
    for setting in (*(s for _, s in tries), replace(asked, batch_size=1), *(replace(s, batch_size=1) for _, s in tries)):
        way = search.shorter(setting) or search.fewer_rows(setting)
        if way is not None:
            return (_cure(asked, *way),)
    return ()


def _ranks(asked: _Setting) -> list[tuple[str, _Setting]]:
    """The largest rank first; ranks below 4 teach too little to be worth a suggestion."""
    ranks = []
    rank = asked.rank // 2
    while rank >= _LEAST_RANK:
        ranks.append(("rank", replace(asked, rank=rank)))
        rank //= 2
    return ranks[:1] if len(ranks) < 2 else [ranks[0], ranks[-1]]


def _cure(asked: _Setting, setting: _Setting, peak: int) -> Cure:
    changes: list[tuple[str, str]] = []
    if setting.full != asked.full:
        changes.append(("adapter", '"lora"'))
    elif setting.rank != asked.rank:
        changes.append(("rank", str(setting.rank)))
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
        self._on_cpu = spec.device == "cpu"
        self._nf4 = spec.quantization is not None

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
        size = setting.batch_size // 2
        while size >= 1:
            way = self.check(replace(setting, batch_size=size))
            if way is not None:
                return way
            size //= 2
        return None

    def _peak(self, setting: _Setting) -> int:
        """With the longest rows side by side, which some epoch may bring."""
        c, rank = self._shape, 0 if setting.full else setting.rank
        trainable = c.num_parameters if setting.full else c.adapter_parameters(rank, dora=self._dora)
        # Forwards are bounded: the longest rows of some batches make the largest one.
        rows = [_cut(example, setting.max_length) for example in self._examples[: max(64, setting.batch_size * self._each)]]
        rows = [row for row in rows if row.rendered.num_trained]
        largest, narrow, mixed = 0, self._narrow and not setting.full, self._narrow and setting.full and c.fast
        at_once = logits_at_once(c, supervised=self._each == 1, on_cpu=self._on_cpu, full=setting.full)
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
            nf4=self._nf4,
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
