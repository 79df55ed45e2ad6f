"""The bodies of ``POST /fine_tuning/jobs`` and of checkpoint permissions (reference, sections 2.1 and 2.10).

What it does: shapes and bounds. What it does not: rules across fields (``mapping.py``). Called by the routes.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from luthier.api.schemas.fields import AUTO, AnyObject, Metadata, ModelName, WireModel, one_is_a_list
from luthier.api.schemas.reward_graders import RewardGrader

FileId = Annotated[str, Field(min_length=1, max_length=128)]


class Hyperparameters(WireModel):
    """None stands for "auto"."""

    n_epochs: Annotated[Annotated[int, Field(ge=1, le=50)] | None, AUTO] = None
    batch_size: Annotated[Annotated[int, Field(ge=1, le=256)] | None, AUTO] = None
    learning_rate_multiplier: Annotated[Annotated[float, Field(gt=0.0, le=1000.0)] | None, AUTO] = None


class Supervised(WireModel):
    """``method.supervised``."""

    hyperparameters: Hyperparameters | None = None


class DpoHyperparameters(Hyperparameters):
    """Those of preference fine-tuning."""

    beta: Annotated[Annotated[float, Field(gt=0.0, le=2.0)] | None, AUTO] = None


class Dpo(WireModel):
    """``method.dpo``."""

    hyperparameters: DpoHyperparameters | None = None


class ReinforcementHyperparameters(Hyperparameters):
    """Those of reinforcement fine-tuning."""

    reasoning_effort: Literal["default", "low", "medium", "high"] | None = None
    compute_multiplier: Annotated[Annotated[float, Field(gt=0.00001, le=10.0)] | None, AUTO] = None
    eval_interval: Annotated[Annotated[int, Field(ge=1)] | None, AUTO] = None
    eval_samples: Annotated[Annotated[int, Field(ge=1)] | None, AUTO] = None


class JsonSchema(WireModel):
    """``method.reinforcement.response_format.json_schema``."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    description: str | None = None
    strict: bool | None = None
    schema_: Annotated[AnyObject, Field(alias="schema")]


class ResponseFormat(WireModel):
    """``method.reinforcement.response_format``."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class Reinforcement(WireModel):
    """``method.reinforcement``."""

    grader: RewardGrader
    hyperparameters: ReinforcementHyperparameters | None = None
    response_format: ResponseFormat | None = None


class Method(WireModel):
    """``method``."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None


class Wandb(WireModel):
    """Where metrics are sent to, by the server with its own key (``worker/loggers``)."""

    project: Annotated[str, Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(max_length=256)] | None = None
    entity: Annotated[str, Field(max_length=256)] | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=50)] | None = None


class Integration(WireModel):
    """One of ``integrations``."""

    type: Literal["wandb"]
    wandb: Wandb


LayerName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
_LayerNames = Annotated[list[LayerName], Field(min_length=1, max_length=32)]
Targets = Annotated[_LayerNames, BeforeValidator(one_is_a_list, json_schema_input_type=LayerName | _LayerNames)]
"""``all-linear``, ``attention``, ``mlp``, or names of linear layers: one word or a list."""


class EarlyStopping(WireModel):
    """When to end before the last epoch."""

    patience: Annotated[int, Field(ge=1, le=50)] | None = None
    min_delta: Annotated[float, Field(ge=0.0, le=100.0)] | None = None


def _as_an_object(value: object) -> object:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


Stopping = Annotated[EarlyStopping | None, BeforeValidator(_as_an_object, json_schema_input_type=bool | EarlyStopping | None)]
"""``true`` is an object without fields, ``false`` none at all."""


class LuthierOptions(WireModel):
    """Our own options: ``extra_body={"luthier": {...}}``."""

    adapter: Literal["lora", "rslora", "dora", "full"] | None = None
    rank: Annotated[int, Field(ge=1, le=512)] | None = None
    alpha: Annotated[float, Field(gt=0.0, le=4096.0)] | None = None
    targets: Targets | None = None
    quantization: Literal["nf4"] | None = None
    """How the base's linear layers are held while an adapter learns: ``nf4``, in 4 bits."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    skip_untrained: bool | None = None
    schedule: Literal["linear", "cosine", "constant"] | None = None
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    warmup_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    min_rate_ratio: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    optimizer: Literal["adamw", "sgd", "lion", "adafactor"] | None = None
    weight_decay: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1_000_000.0)] | None = None
    early_stopping: Stopping = None
    keep: Literal["last", "best"] | None = None
    max_skipped_steps: Annotated[int, Field(ge=0, le=1000)] | None = None
    on_loss_spike: Literal["tell", "halve"] | None = None
    packing: Literal["auto", "on", "off"] | None = None
    """Whether a step's rows lie end to end in packed sequences."""
    gradient_checkpointing: bool | None = None
    """Whether blocks are made again on the way back instead of kept: less memory, more time. Left out: where memory asks for it."""
    neftune_alpha: Annotated[float, Field(gt=0.0, le=100.0)] | None = None
    """Size of the noise on the input embeddings while a step learns."""
    prompt_loss_weight: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """What a token of the prompt counts in the training loss, beside 1 for a token of the answer."""
    preference_loss: Literal["dpo", "orpo", "kto"] | None = None
    """Which loss the pairs of ``method.dpo`` are learned by."""
    range_test: bool | None = None
    """Whether the learning rate is found by a short test before the first step."""
    priority: Annotated[int, Field(ge=-2, le=2)] | None = None
    """Beside the project's other jobs: before them in the queue, and twice the time for each step up. Other projects lose nothing."""


class JobCreateRequest(WireModel):
    """A new fine-tuning job."""

    model: ModelName
    training_file: FileId
    validation_file: FileId | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    integrations: Annotated[list[Integration], Field(max_length=5)] | None = None
    metadata: Metadata | None = None
    luthier: LuthierOptions | None = None


class PermissionCreateRequest(WireModel):
    """Projects that may use a checkpoint."""

    project_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(min_length=1, max_length=1000)]
