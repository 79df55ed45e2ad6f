"""Small real jobs for the browser's tests, what their logs tell of them, and numbers as the page writes them (``web/src/lib/format.ts``).

What it does not: open a page. Called by the tests beside it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.trace.reader import read_events
from luthier.trace.view import TraceView, view_of
from tests.support.examples import pairs, prompt_completion_file
from tests.support.server import ServerProcess

ROWS = 40
EPOCHS = 3
SUFFIX = "looked-at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A job that has succeeded."""

    id: str
    model: str
    training_file: str
    run_dir: Path
    view: TraceView
    """As its log tells it."""


def create(server: ServerProcess, *, suffix: str, epochs: int, rows: int = ROWS) -> str:
    """A small job with held-out rows; its id."""
    client = server.client()
    files = [
        client.files.create(file=(name, prompt_completion_file(count, name)), purpose="fine-tune").id
        for name, count in (("train.jsonl", rows), ("valid.jsonl", 8))
    ]
    hyperparameters = {"n_epochs": epochs, "batch_size": 4}
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    job = client.fine_tuning.jobs.create(
        model="luthier-mini", training_file=files[0], validation_file=files[1], suffix=suffix, seed=7, method=method
    )
    return job.id


def run_dir(server: ServerProcess, job_id: str) -> Path:
    """The job's run folder."""
    (log,) = server.data_dir.glob(f"runs/{job_id}*/trace.jsonl")
    return log.parent


def told(server: ServerProcess, job_id: str) -> TraceView:
    """The job as its log tells it."""
    return view_of(read_events(run_dir(server, job_id) / "trace.jsonl")[0])


def train(server: ServerProcess) -> Trained:
    """Create a job and wait until it has succeeded."""
    job_id = create(server, suffix=SUFFIX, epochs=EPOCHS)
    job = server.wait_for_job(job_id)
    assert job.status == "succeeded", (job.error, server.logs())
    assert job.fine_tuned_model is not None
    return Trained(
        id=job_id,
        model=job.fine_tuned_model,
        training_file=job.training_file,
        run_dir=run_dir(server, job_id),
        view=told(server, job_id),
    )


def word(line: int = 1) -> str:
    """The longest word of a row of the training file."""
    return max(pairs()[line - 1][1].split(), key=len)


def shown_loss(value: float) -> str:
    """Three decimals below 1, two above."""
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def shown_count(value: int) -> str:
    """Thin spaces from five digits on."""
    return f"{value:,}".replace(",", "\u202f") if value >= 10_000 else str(value)


def shown_chance(value: float) -> str:
    """A probability in per cent with one decimal, never all where it is not all."""
    percent = f"{100 * value:.1f}"
    return ("99.9" if value < 1 and percent == "100.0" else percent) + "\u202f%"
