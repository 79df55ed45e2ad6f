"""A short, complete run as trace events: one place for the trace's and the terminal's tests."""

from collections.abc import Sequence
from dataclasses import replace

from luthier.core.forecast import Basis, Forecast, LengthBucket, Span, TimePart
from luthier.core.stage import Stage
from luthier.trace.events import (
    BaseMeasured,
    CheckpointSaved,
    EpochDone,
    Evaluated,
    Forecasted,
    ModelPublished,
    Notice,
    Payload,
    PredictionTraced,
    PromptsAnswered,
    ResumeSaved,
    RunFinished,
    RunStarted,
    SpecResolved,
    StageFinished,
    StageStarted,
    StepDone,
    TraceEvent,
)

RUN = "ftjob-abc"
MODEL = "gpt-4o-mini-2024-07-18"
BASE = "luthier-mini"
FINAL = f"ft:{MODEL}:luthier:demo:AbCdEf12"

FORECAST = Forecast(
    basis=Basis.FORMULA,
    examples=16,
    n_epochs=2,
    batch_size=8,
    steps_per_epoch=2,
    total_steps=4,
    tokens_per_epoch=400,
    trained_per_epoch=80,
    tokens=800,
    longest=40,
    seconds=Span(low=20.0, likely=34.0, high=65.0),
    parts=(
        TimePart(name="steps", seconds=Span(low=16.0, likely=27.0, high=51.0)),
        TimePart(name="evaluation", seconds=Span(low=4.0, likely=7.0, high=14.0)),
    ),
    buckets=(LengthBucket(shortest=18, longest=40, steps=2, seconds=6.75),),
    peak_bytes=Span(low=425e6, likely=500e6, high=575e6),
    available_bytes=8_000_000_000,
)


def step(number: int, loss: float = 1.0, *, accuracy: float = 0.5, total: int = 4, epoch: int = 1, valid: float | None = None) -> StepDone:
    """One step with plausible side numbers."""
    return StepDone(
        step=number,
        total_steps=total,
        epoch=epoch,
        loss=loss,
        token_accuracy=accuracy,
        num_tokens=40,
        learning_rate=1e-3,
        grad_norm=0.7,
        seconds=0.05,
        valid_loss=valid,
        valid_accuracy=None if valid is None else 0.625,
    )


def answered(epoch: int, answer: str) -> PromptsAnswered:
    """One fixed prompt."""
    row = {"line": 17, "prompt": "Translate to French: Hi", "expected": "Salut", "answer": answer}
    return PromptsAnswered(epoch=epoch, held_out=True, answers=(row,))


def measured(step: StepDone, *, share_used: float | None = 0.5) -> StepDone:
    """The step with the figures of its work."""
    return replace(step, tokens=120, tokens_per_second=2400.0, padding_share=0.25, memory_bytes=400_000_000, flops_utilization=share_used)


def epoch(number: int, train: float, valid: float | None, *, steps: int = 2, n: int = 2, accuracy: float = 0.7) -> EpochDone:
    """One epoch's end."""
    return EpochDone(
        epoch=number,
        n_epochs=n,
        step=number * steps,
        train_loss=train,
        train_accuracy=accuracy,
        valid_loss=valid,
        valid_accuracy=None if valid is None else 0.8,
        sample_loss=train,
        seconds=1.5,
    )


def events_of(payloads: Sequence[tuple[Stage, Payload]], *, first_id: int = 1, attempt: int = 1) -> list[TraceEvent]:
    """Envelopes with growing ids, one second apart."""
    return [
        TraceEvent(id=first_id + i, run=RUN, attempt=attempt, time=1_700_000_000.0 + first_id + i, stage=stage, payload=payload)
        for i, (stage, payload) in enumerate(payloads)
    ]


def _side(token: str, probability: float, other: str) -> dict:
    top = [{"token": token, "probability": probability}, {"token": other, "probability": (1 - probability) / 2}]
    return {"answer": token, "path": [{"token": token, "probability": probability, "top": top}]}


PREDICTION = {
    "prompt": "Translate to French: Good [bold]bye",
    "held_out": True,
    "prompt_tokens": [
        {"id": 8, "text": "<|user|>", "kind": "special", "role": "user"},
        {"id": 40, "text": "Translate", "kind": "context", "role": "user"},
        {"id": 41, "text": " to", "kind": "context", "role": "user"},
        {"id": 9, "text": "<|assistant|>", "kind": "special", "role": "assistant"},
    ],
    "base": _side("Hello", 0.25, "\x1b[31mred"),
    "tuned": _side("Salut", 0.875, "Au"),
}

REPORT = {
    "n": 4,
    "base": {"loss": 3.5, "accuracy": 0.25, "exact_match": 0.0},
    "tuned": {"loss": 0.5, "accuracy": 0.875, "exact_match": 0.75},
    "better": 3,
    "worse": 0,
    "same": 1,
    "samples": [{"prompt": "Translate to French: Yes", "expected": "Oui", "base": "", "tuned": "Oui"}],
}

SPEC = SpecResolved(
    spec={"method": "lora", "n_epochs": 2, "steps_per_epoch": 2, "batch_size": 8, "learning_rate": 0.001, "seed": 7, "total_steps": 4},
    decisions=({"name": "batch_size", "value": 8, "reason": "16 examples are few."},),
    trainable_parameters=1000,
    total_parameters=8000,
)


def stage_report(shape_in: str, sample: dict, *, changes: tuple[str, ...] = ()) -> StageFinished:
    """A stage's account."""
    return StageFinished(shape_in=shape_in, did="did it", shape_out=f"out of {shape_in}", seconds=0.25, changes=changes, sample=sample)


def whole_run() -> list[TraceEvent]:
    """All five stages of two epochs, two steps each, that went on after step 3 in a second attempt."""
    s = Stage
    first: list[tuple[Stage, Payload]] = [
        (s.COLLECTION, StageStarted(shape_in="the uploaded files")),
        (
            s.COLLECTION,
            stage_report(
                "16 lines", {"line": 1, "prompt": "Translate to French: Yes", "completion": "Oui"}, changes=("1 blank line left out",)
            ),
        ),
        (s.TRAINING, RunStarted(model=MODEL, base=BASE, attempt=1, resumed_from_step=0)),
        (s.PREPROCESSING, StageStarted(shape_in="16 examples")),
        (
            s.PREPROCESSING,
            stage_report(
                "16 examples",
                {"line": 1, "tokens": [*PREDICTION["prompt_tokens"], {"text": "Oui", "kind": "trained", "role": "assistant"}]},
            ),
        ),
        (s.TRAINING, Forecasted(forecast=FORECAST.to_dict(), finish_at=1_700_000_040.0)),
        (s.TRAINING, StageStarted(shape_in="16 tokenized examples x 2 epochs")),
        (s.TRAINING, SPEC),
        (s.TRAINING, BaseMeasured(loss=3.5, accuracy=0.25, held_out=True)),
        (s.TRAINING, answered(0, "Hello")),
        (s.TRAINING, step(1, 3.0)),
        (s.TRAINING, step(2, 2.0, valid=1.5)),
        (s.TRAINING, epoch(1, 2.5, 1.25)),
        (s.TRAINING, answered(1, "Hello")),
        (s.TRAINING, CheckpointSaved(step=2, epoch=1, model_name=f"{FINAL}:ckpt-step-2", bytes=4096)),
        (s.TRAINING, ResumeSaved(step=2, bytes=9000, seconds=0.1)),
        (s.TRAINING, step(3, 1.75, epoch=2)),
    ]
    second: list[tuple[Stage, Payload]] = [
        (s.TRAINING, RunStarted(model=MODEL, base=BASE, attempt=2, resumed_from_step=2)),
        (s.TRAINING, step(3, 1.5, epoch=2)),
        (s.TRAINING, measured(step(4, 1.0, epoch=2, valid=1.0))),
        (s.TRAINING, epoch(2, 1.25, 1.0, accuracy=0.9)),
        (s.TRAINING, answered(2, "Salut\x1b[31m")),
        (
            s.TRAINING,
            stage_report("16 tokenized examples x 2 epochs", {"losses": [{"epoch": 1.0, "loss": 2.5}, {"epoch": 2.0, "loss": 1.25}]}),
        ),
        (s.EVALUATION, StageStarted(shape_in="4 validation examples")),
        (s.EVALUATION, Evaluated(report=REPORT)),
        (s.EVALUATION, stage_report("4 validation examples", {"line": 1, **REPORT["samples"][0]})),
        (s.DEPLOYMENT, StageStarted(shape_in="the final checkpoint")),
        (s.DEPLOYMENT, PredictionTraced(prediction=PREDICTION)),
        (s.DEPLOYMENT, stage_report("the final checkpoint", {"prompt": "Translate to French: No", "answer": "Non"})),
        (s.DEPLOYMENT, Notice(level="warn", message="a plain sentence")),
        (
            s.DEPLOYMENT,
            ModelPublished(model_name=FINAL, bytes=123_456, load_seconds=0.5, first_token_seconds=0.012, tokens_per_second=150.0),
        ),
        (s.DEPLOYMENT, RunFinished(status="succeeded")),
    ]
    return events_of(first) + events_of(second, first_id=len(first) + 1, attempt=2)
