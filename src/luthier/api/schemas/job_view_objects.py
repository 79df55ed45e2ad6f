"""What a run told, folded: ``luthier.job_view``'s ``view``, for the OpenAPI document and the page's types.

What it does: names the fields of ``trace/view.py``'s ``TraceView.to_dict`` and of what events carry as plain objects; the events' own
payloads stand for themselves. What it does not: make views. Called by ``dashboard_objects.py``.
"""

from typing import Any, Literal

from luthier.api.schemas.objects import Shape
from luthier.trace import events as e

StageName = Literal["data_collection", "data_preprocessing", "fine_tuning_training", "evaluation", "deployment"]
"""Values of ``core.stage.Stage``."""


class StageState(Shape):
    """One of the five stages, as far as it has come."""

    stage: StageName
    status: Literal["waiting", "running", "done"]
    shape_in: str | None
    report: e.StageFinished | None


class Decision(Shape):
    """A number that was "auto", and why it became what it is."""

    name: str
    value: Any
    reason: str


class ResolvedSpec(Shape):
    """``SpecResolved`` with its decisions."""

    spec: dict[str, Any]
    decisions: list[Decision]
    trainable_parameters: int
    total_parameters: int


class EpochRow(Shape):
    """``EpochDone`` with what it means, in a sentence."""

    epoch: int
    n_epochs: int
    step: int
    train_loss: float | None
    train_accuracy: float
    valid_loss: float | None
    valid_accuracy: float | None
    sample_loss: float | None
    seconds: float
    preference: dict[str, float] | None
    valid_preference: dict[str, float] | None
    observation: str


class FixedAnswer(Shape):
    """One of the fixed prompts, answered."""

    line: int
    prompt: str
    expected: str
    answer: str


class FixedAnswers(Shape):
    """``PromptsAnswered`` with its rows; epoch 0 is the base."""

    epoch: int
    held_out: bool
    answers: list[FixedAnswer]


class Means(Shape):
    """Of a model on the held-out rows; the loss in nats."""

    loss: float | None
    accuracy: float
    exact_match: float


class ComparedAnswer(Shape):
    """One held-out row, answered by both; what older reports did not tell may be missing."""

    line: int | None = None
    prompt: str
    expected: str
    base: str
    tuned: str
    base_loss: float | None = None
    tuned_loss: float | None = None
    verdict: Literal["better", "worse", "same"] | None = None


class Evaluation(Shape):
    """Base beside tuned on the held-out rows (``Evaluated``); ``preference`` with pairs of answers."""

    n: int
    rule: str | None = None
    base: Means
    tuned: Means
    better: int
    worse: int
    same: int
    samples: list[ComparedAnswer]
    preference: dict[str, Any] | None = None


class RecordedToken(Shape):
    """A token of the recorded prompt."""

    id: int
    text: str
    kind: str
    role: str | None
    bytes: list[int] | None = None
    message: int | None = None


class RecordedAlternative(Shape):
    """A token that could have stood there."""

    token: str
    probability: float


class RecordedStep(Shape):
    """A token of a recorded answer; ``end``: the model ended its answer here."""

    token: str
    probability: float
    top: list[RecordedAlternative]
    end: bool | None = None


class RecordedSide(Shape):
    """One model's greedy answer."""

    answer: str
    path: list[RecordedStep]


class RecordedPrediction(Shape):
    """What the run itself recorded of one unseen prompt (``PredictionTraced``)."""

    prompt: str
    held_out: bool
    prompt_tokens: list[RecordedToken]
    base: RecordedSide | None
    tuned: RecordedSide | None


class TraceView(Shape):
    """A job as its events tell it; what none of them told is null."""

    run: str | None
    last_id: int
    started: e.RunStarted | None
    resumed_from: list[int]
    stages: list[StageState]
    spec: ResolvedSpec | None
    base: e.BaseMeasured | None
    reference: e.ReferenceScored | None
    first_step_at: float | None
    steps: list[e.StepDone]
    epochs: list[EpochRow]
    answers: list[FixedAnswers]
    checkpoints: list[e.CheckpointSaved]
    resume: e.ResumeSaved | None
    evaluation: Evaluation | None
    prediction: RecordedPrediction | None
    published: e.ModelPublished | None
    forecast: dict[str, Any] | None
    forecast_checked: e.ForecastChecked | None
    notices: list[e.Notice]
    finished: e.RunFinished | None
