"""What is to be trained, fully decided. ``training/resolve.py`` makes a ``TrainingSpec``; nothing later reads a default.

The spec's hash with the data set's fingerprint and the base's revision is the identity of a run: a resume with another
identity is refused.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TuningMethod(StrEnum):
    """Which weights learn."""

    LORA = "lora"
    """Low-rank adapters beside every linear layer (Hu et al. 2021, arXiv:2106.09685); the base stays as it is."""
    FULL = "full"
    """All weights of the model."""


class LoraKind(StrEnum):
    """Which low-rank adapter learns, where one does."""

    LORA = "lora"
    """Scaled by alpha / rank (Hu et al. 2021, arXiv:2106.09685)."""
    RSLORA = "rslora"
    """Scaled by alpha / sqrt(rank), so that a large rank learns as fast as a small one (Kalajdzievski 2023, arXiv:2312.03732)."""
    DORA = "dora"
    """As LORA, and each row of an adapted matrix has a length that learns (Liu et al. 2024, arXiv:2402.09353)."""


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    """Half a cosine (Loshchilov and Hutter 2017, arXiv:1608.03983)."""
    CONSTANT = "constant"


class OptimizerName(StrEnum):
    """What turns gradients into steps."""

    ADAMW = "adamw"
    """Loshchilov and Hutter 2019, arXiv:1711.05101."""
    SGD = "sgd"
    """With momentum beta1."""
    LION = "lion"
    """Chen et al. 2023, arXiv:2302.06675."""
    ADAFACTOR = "adafactor"
    """Shazeer and Stern 2018, arXiv:1804.04235."""


class Keep(StrEnum):
    """Which epoch's weights become the model."""

    LAST = "last"
    BEST = "best"
    """Those with the lowest loss over the whole validation file."""


class ObjectiveKind(StrEnum):
    """What the weights learn from."""

    SUPERVISED = "supervised"
    """Answers to imitate: cross-entropy."""
    DPO = "dpo"
    """Pairs of answers of which one is preferred (Rafailov et al. 2023, arXiv:2305.18290)."""
    ORPO = "orpo"
    """The same pairs by their odds, beside the preferred answer's own loss; without a reference (Hong et al. 2024, arXiv:2403.07691)."""
    KTO = "kto"
    """Both answers of a pair by themselves, one as good, one as bad (Ethayarajh et al. 2024, arXiv:2402.01306)."""

    @property
    def rows_per_example(self) -> int:
        """Token rows that one line of the file becomes: two where it holds two answers."""
        return 1 if self is ObjectiveKind.SUPERVISED else 2

    @property
    def has_reference(self) -> bool:
        """The model as tuning starts from it is measured on every pair before the first step."""
        return self in (ObjectiveKind.DPO, ObjectiveKind.KTO)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """OpenAI's, as asked: a number, or None for "auto"."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None
    """Of preference tuning: how dearly leaving the reference is paid; of ORPO, which has none, the weight of the odds ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LuthierOptions:
    """Our own options, from ``extra_body={"luthier": {...}}``; None means: decide for me."""

    adapter: TuningMethod = TuningMethod.LORA
    kind: LoraKind = LoraKind.LORA
    """Which adapter, where ``adapter`` says one."""
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] | None = None
    """``("all-linear",)``, ``("attention",)``, ``("mlp",)`` or names of linear layers."""
    quantization: str | None = None
    """``nf4``: the base's linear layers are held in 4 bits while an adapter learns; None: as they are."""
    max_length: int | None = None
    skip_untrained: bool = False
    """Leave out rows of which nothing would be trained, instead of failing."""
    schedule: Schedule = Schedule.LINEAR
    warmup_steps: int | None = None
    warmup_ratio: float | None = None
    """Share of all steps; at most one of the two is given."""
    min_rate_ratio: float = 0.0
    optimizer: OptimizerName = OptimizerName.ADAMW
    weight_decay: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    max_grad_norm: float | None = None
    patience: int = 0
    """Epochs without a better held-out loss after which the run ends; 0: it never ends early."""
    min_delta: float = 0.0
    """Nats by which a held-out loss must be lower to be better."""
    keep: Keep | None = None
    max_skipped_steps: int | None = None
    on_loss_spike: str = "tell"
    """``tell``, or ``halve``: the learning rate."""
    packing: str = "auto"
    """``on``: a step's rows lie end to end in the fewest forwards; ``off``: side by side; ``auto``: by the device."""
    gradient_checkpointing: bool | None = None
    """Keep no block's inner values for the way back, and make them again there: less memory, more time. None: where memory asks for it."""
    neftune_alpha: float | None = None
    prompt_loss_weight: float | None = None
    preference_loss: ObjectiveKind = ObjectiveKind.DPO
    """Which loss pairs of answers are learned by: ``dpo``, ``orpo`` or ``kto``."""
    range_test: bool = False
    """Find the learning rate by a short test before the first step."""
    priority: int = 0
    """Beside the project's other jobs; of the queue and the turns, not of training."""


_ENUMS = {"schedule": Schedule, "optimizer": OptimizerName, "keep": Keep, "preference_loss": ObjectiveKind}
DEFAULT_PATIENCE = 1


def options_from(asked: Mapping[str, Any]) -> LuthierOptions:
    """Options as a request names them; its ``adapter`` is our ``adapter`` and ``kind`` in one word."""
    given = {name: value for name, value in asked.items() if value is not None}
    word = given.pop("adapter", LoraKind.LORA.value)
    if word == TuningMethod.FULL:
        given["adapter"] = TuningMethod.FULL
    else:
        given["kind"] = LoraKind(word)
    stopping = given.pop("early_stopping", False)
    if stopping is not False:
        asked_for = {} if stopping is True else stopping
        given |= {"patience": asked_for.get("patience") or DEFAULT_PATIENCE, "min_delta": asked_for.get("min_delta") or 0.0}
    if "targets" in given:
        named = given["targets"]
        given["targets"] = (named,) if isinstance(named, str) else tuple(named)
    return LuthierOptions(**{name: _ENUMS.get(name, _as_it_is)(value) for name, value in given.items()})


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec:
    """Every decided number of one run."""

    method: TuningMethod
    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    """Peak rate: multiplier times the base rate of the method and model size."""
    lora_rank: int
    """0 for full fine-tuning."""
    lora_alpha: float
    warmup_steps: int
    steps_per_epoch: int
    total_steps: int
    max_length: int
    """Longest example, tokens; longer ones are cut at the end."""
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    seed: int
    num_threads: int
    """CPU threads of the training process: they decide the order of sums, hence the bits."""
    validation_every: int
    """Steps between two small validation batches."""
    base: str
    """Name of the open base model that trains."""
    base_revision: str
    """Hash of the base's (and the parent adapter's) weights and tokenizer."""
    dataset_fingerprint: str
    validation_fingerprint: str | None
    device: str = "cpu"
    """Where it trains, as torch writes it; decides the bits, so a run goes on only where it began."""
    more_devices: tuple[str, ...] = ()
    """Further devices of the machine, each of which does a part of every step; ``device`` is the first."""
    precision: str = "float32"
    """Numbers of the base's weights in memory: ``float32`` or ``bfloat16``; ``mixed``: float32, multiplied as bfloat16."""
    lora_kind: LoraKind = LoraKind.LORA
    targets: tuple[str, ...] = ()
    """Names of the linear layers that get an adapter; empty for all."""
    schedule: Schedule = Schedule.LINEAR
    min_rate_ratio: float = 0.0
    """The last step's learning rate comes down to this share of the peak."""
    optimizer: OptimizerName = OptimizerName.ADAMW
    objective: ObjectiveKind = ObjectiveKind.SUPERVISED
    beta: float = 0.0
    """Of preference tuning, as ``Hyperparameters.beta``; 0 for other objectives."""
    keep: Keep = Keep.LAST
    patience: int = 0
    """Epochs without a better held-out loss after which the run ends; 0: it never ends early."""
    min_delta: float = 0.0
    """Nats by which a held-out loss must be lower to be better."""
    max_skipped_steps: int = 5
    """Steps in a row whose loss or gradient is no finite number that are left out; one more ends the run."""
    halve_on_spike: bool = False
    """A loss far above the usual halves the learning rate of what follows."""
    packing: bool = False
    """A step's rows lie end to end in packed sequences, one forward each; no row sees another."""
    gradient_checkpointing: bool = False
    """A block's inner values are made again on the way back (Chen et al. 2016, arXiv:1604.06174)."""
    neftune_alpha: float = 0.0
    """Size of the noise on the input embeddings of a training step; 0: none."""
    prompt_loss_weight: float = 0.0
    """Weight of a prompt's tokens in the training loss, beside 1 of an answer's; 0: they do not count."""
    range_steps: int = 0
    """Steps of the range test that decides the learning rate before the first step; 0: none."""
    quantization: str | None = None
    """``nf4`` where the base's linear layers are held in 4 bits (QLoRA, Dettmers et al. 2023, arXiv:2305.14314)."""

    def identity(self) -> str:
        """SHA-256 over all fields; a field that has its default is left out, so that a new one does not cut older runs off."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        text = json.dumps({k: v for k, v in dataclasses.asdict(self).items() if v != defaults[k]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``spec.json``."""
        return dataclasses.asdict(self)


def spec_from_dict(plain: dict[str, Any]) -> TrainingSpec:
    """The inverse of ``TrainingSpec.to_dict``."""
    enums = {"method": TuningMethod, "lora_kind": LoraKind, "objective": ObjectiveKind, **_ENUMS}
    chosen = {name: kind(plain[name]) for name, kind in enums.items() if name in plain}
    tuples = {name: tuple(plain.get(name, ())) for name in ("targets", "more_devices")}
    return TrainingSpec(**{**plain, **chosen, **tuples})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Why an "auto" became this number; shown in an event."""

    name: str
    value: float | str
    reason: str
