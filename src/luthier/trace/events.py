"""Every event that a run can emit: one union of small payloads inside a common envelope.

Schema version 1. OpenAI's job events, the metrics CSV, the terminal trace and the dashboard are projections of these.
What this module does not do: write or read the log (``writer.py``, ``reader.py``). Called by every stage.
A new event needs a payload here, its line in ``docs/reference/trace-events.md``, and its place in ``view.py``.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, get_args

from luthier.core.stage import Stage

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """A trainer took the job."""

    model: str
    """The name that was asked for."""
    base: str
    """The open model that trains."""
    attempt: int
    resumed_from_step: int
    """0 for a fresh start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStarted:
    """A stage begins."""

    shape_in: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFinished:
    """A stage is done: what came in, what was done, what went out, one real sample, what was dropped or changed."""

    shape_in: str
    did: str
    shape_out: str
    seconds: float
    changes: tuple[str, ...] = ()
    sample: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecResolved:
    """Every "auto" became a number."""

    spec: dict[str, Any]
    decisions: tuple[dict[str, Any], ...]
    """``name``, ``value``, ``reason`` of each decided number."""
    trainable_parameters: int
    total_parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTested:
    """A learning-rate range test before the first step, on weights that were thrown away: what each rate did, and which one was taken."""

    steps: int
    """That were to be taken; there are fewer points where a number was not finite."""
    base_rate: float
    """What would have been taken without it; the test goes from a tenth to ten times of it."""
    learning_rate: float
    """The peak rate of the run."""
    lowest_rate: float | None
    """Where the smoothed curve is lowest; None where the test said nothing and the base rate stays."""
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    """Mean over a step's trained tokens before its update, nats."""
    changes: tuple[float, ...]
    """The same less the loss of the same rows on the model as it starts."""
    curve: tuple[float, ...]
    """``changes``, smoothed over neighbouring rates."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """One optimiser step."""

    step: int
    total_steps: int
    epoch: int
    loss: float
    """Mean over the step's trained tokens, nats; over its pairs where there are pairs of answers. With ``prompt_loss_weight`` the tokens
    of prompts count in it with their weight; accuracies, token counts and held-out losses are of the answers alone all the same."""
    token_accuracy: float
    """Share of greedy hits among the trained tokens; among those of the preferred answers where there are pairs."""
    num_tokens: int
    """Trained tokens in the step."""
    learning_rate: float
    grad_norm: float
    seconds: float
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    lines: tuple[int, ...] = ()
    """Lines of the training file in the step, sorted; the first 32."""
    preference: dict[str, float] | None = None
    """With pairs of answers, means over the step's pairs. A reward is beta times the log-ratio of an answer to the reference; by ORPO,
    which has none, beta times the mean log-probability of its tokens. ``reward_chosen``, ``reward_rejected``, ``reward_margin`` (the
    first less the second), ``reward_accuracy`` (share of pairs with a margin above 0; one of exactly 0 counts half). ``logp_chosen``,
    ``logp_rejected``: log-probabilities of whole answers, nats. ``prefers``: share of pairs whose preferred answer is the likelier one,
    whatever the reference says. None for other jobs."""
    valid_preference: dict[str, float] | None = None
    """The same of the small validation, where there was one."""
    tokens: int | None = None
    """Tokens of the step's rows, padding not counted."""
    tokens_per_second: float | None = None
    """These tokens over the seconds of forward, backward and update; a validation after the step does not count."""
    padding_share: float | None = None
    """Share of the positions that were computed and held no token, 0 to 1."""
    memory_bytes: int | None = None
    """Resident memory of the training process after the step; on a GPU the most that its tensors took there so far."""
    flops_utilization: float | None = None
    """Model FLOPs utilisation: operations that the step's tokens need (forward and backward, without padding, recomputation and the
    adapter's own; attention counted whole, as in Chowdhery et al. 2022, arXiv:2204.02311) per second, over what the device did in products
    of this model's own matrices, measured before the first step. None where that was not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochDone:
    """One pass over the training file. Means are weighted by trained tokens over all steps of the epoch."""

    epoch: int
    n_epochs: int
    step: int
    train_loss: float
    """Of the same tokens as ``StepDone.loss``."""
    train_accuracy: float
    valid_loss: float | None
    valid_accuracy: float | None
    sample_loss: float | None
    """Loss of the sample example of the data stages, after this epoch."""
    seconds: float
    preference: dict[str, float] | None = None
    """As in ``StepDone``, over all pairs of the epoch, each as it was before its step."""
    valid_preference: dict[str, float] | None = None
    """The same over all held-out pairs, after the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """A step whose loss or gradient was no finite number: weights and optimizer stayed as they were."""

    step: int
    total_steps: int
    epoch: int
    what: str
    """``loss`` or ``gradient``."""
    lines: tuple[int, ...]
    """Lines of the training file that it may come from, sorted; the first 32."""
    in_row: int
    """How many steps in a row were skipped, this one among them."""
    allowed: int
    """One more than so many in a row ends the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpiked:
    """A step's loss, before its update, far above those before it."""

    step: int
    loss: float
    """Mean over the step's trained tokens, nats."""
    usual: float
    """The median of the up to 32 losses before it."""
    bound: float
    """What it is above: the median and eight robust deviations, half of it and 0.5 nats, and the run's first losses."""
    lines: tuple[int, ...]
    """Of the training file, sorted; the first 32."""
    halved: bool
    """The learning rate is half of what it was, from this step on."""
    rate_factor: float
    """What the schedule's rate is multiplied by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChosen:
    """Which checkpoint becomes the job's model, where it was to be chosen or the run ends early."""

    step: int
    epoch: int
    last_step: int
    last_epoch: int
    n_epochs: int
    """That were decided; the last one may be an earlier one."""
    best_epoch: int
    """The one with the lowest held-out loss; 0 where none could be measured."""
    best_loss: float | None
    patience: int
    """Epochs without a better loss after which the run ends; 0: it does not end early."""
    min_delta: float
    keep: str
    """``best`` or ``last``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptsAnswered:
    """The same few prompts, answered greedily by the model in training."""

    epoch: int
    """After this one; 0 is the base."""
    held_out: bool
    """True: rows of the validation file."""
    answers: tuple[dict[str, Any], ...]
    """``line``, ``prompt``, ``expected`` and ``answer`` of each; long texts are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseMeasured:
    """The base's own loss on the validation file (or, without one, on the training file) before the first step."""

    loss: float
    accuracy: float
    held_out: bool
    preference: dict[str, float] | None = None
    """With pairs of answers, of the model as tuning starts from it; as in ``StepDone``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceScored:
    """How far the measurement of a preference run's reference is: the model as it was before the first update."""

    done: int
    """Pairs, held-out ones among them."""
    total: int
    seconds: float
    """Of this attempt."""
    reused: bool
    """True where all of it was read from an earlier attempt's files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeSaved:
    """A resume state is complete on disk."""

    step: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved:
    """A callable checkpoint is complete on disk and registered."""

    step: int
    epoch: int
    model_name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Base beside tuned on the validation file."""

    report: dict[str, Any]
    """See ``evaluation/report.py``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionTraced:
    """Tier A of the prediction trace for one unseen prompt."""

    prediction: dict[str, Any]
    """``prompt``, ``tokens``, ``base`` and ``tuned`` (each ``answer`` and ``path`` of token, probability, top)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPublished:
    """The final model is on disk, checksummed, loaded and warm."""

    model_name: str
    bytes: int
    load_seconds: float
    first_token_seconds: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasted:
    """What the job will take; made before the first step, and once more when the first steps are measured."""

    forecast: dict[str, Any]
    """See ``core/forecast.py``."""
    finish_at: float
    """When the job will likely be done, Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastChecked:
    """At a job's end: the latest forecast beside what came of it. Not told of a run that was resumed."""

    basis: str
    """What the forecast rested on: ``formula`` or ``first_steps``."""
    forecast_seconds: tuple[float, float, float]
    """Low, likely, high."""
    seconds: float
    """From the trainer's start to the answering model."""
    forecast_bytes: tuple[float, float, float]
    """Low, likely, high."""
    peak_bytes: int
    """Largest resident memory of the training process."""
    forecast_tokens: int
    tokens: int
    """Of all rows over all epochs, as trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A plain sentence for the reader of the log."""

    level: str
    """info, warn or error."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished:
    """The job reached a final status."""

    status: str
    error: dict[str, Any] | None = None


Payload = (
    RunStarted
    | StageStarted
    | StageFinished
    | SpecResolved
    | RangeTested
    | StepDone
    | EpochDone
    | StepSkipped
    | LossSpiked
    | ModelChosen
    | PromptsAnswered
    | BaseMeasured
    | ReferenceScored
    | ResumeSaved
    | CheckpointSaved
    | Evaluated
    | PredictionTraced
    | ModelPublished
    | Forecasted
    | ForecastChecked
    | Notice
    | RunFinished
)

PAYLOADS: dict[str, type] = {cls.__name__: cls for cls in get_args(Payload)}


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceEvent:
    """The envelope. ``id`` grows by one within a run, across attempts."""

    id: int
    run: str
    attempt: int
    time: float
    """Unix seconds."""
    stage: Stage
    payload: Payload
    schema: int = SCHEMA_VERSION


def event_to_dict(event: TraceEvent) -> dict[str, Any]:
    """Plain values, as one line of the log holds them."""
    return {
        "schema": event.schema,
        "id": event.id,
        "run": event.run,
        "attempt": event.attempt,
        "time": event.time,
        "stage": event.stage.value,
        "type": type(event.payload).__name__,
        "data": dataclasses.asdict(event.payload),
    }


def event_from_dict(plain: dict[str, Any]) -> TraceEvent:
    """The inverse of ``event_to_dict``; fields of a newer schema that are unknown here are ignored."""
    cls = PAYLOADS[plain["type"]]
    known = {f.name for f in dataclasses.fields(cls)}
    data = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["data"].items() if k in known}
    return TraceEvent(
        id=plain["id"],
        run=plain["run"],
        attempt=plain["attempt"],
        time=plain["time"],
        stage=Stage(plain["stage"]),
        payload=cls(**data),
        schema=plain["schema"],
    )
