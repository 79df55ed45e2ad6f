"""The jobs of a sweep as the API tells them, and the leaderboard that they make.

What it does: finds a sweep's jobs by their metadata, reads what each reached on the held-out rows, puts them in order. What it does
not: keep anything: the server's jobs and checkpoints are all there is. Called by ``cli/sweep.py`` and ``cli/sweep_follow.py``.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from luthier.cli.client import get
from luthier.cli.exit_codes import ExitCode, exit_code_of_job
from luthier.cli.follow import FINAL
from luthier.cli.sweep_plan import MADE_BY, MARK, POINT, SIZE, SWEEP
from luthier.core.errors import NotFound

if TYPE_CHECKING:
    import openai

Job = Mapping[str, Any]
_PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job's line of the leaderboard; what is not measured or decided yet is None."""

    place: int | None
    """From 1; None for a job that has not succeeded."""
    point: str
    held_out_loss: float | None
    """Over the whole validation file, nats per token: of the tuned model, or of the newest checkpoint of a job without one."""
    token_accuracy: float | None
    n_epochs: int | str | None
    learning_rate_multiplier: float | str | None
    batch_size: int | str | None
    rank: int | None
    """As asked, like ``alpha``; None where the server decides."""
    alpha: float | None
    seed: int
    minutes: float | None
    """From the job's creation to its end: its waiting, and the turns of the others, are in it."""
    status: str
    job: str
    fine_tuned_model: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep's jobs: the newest of each point, in the order of their creation."""

    id: str
    size: int
    """Points of its grid; some may not have a job (yet)."""
    jobs: tuple[dict[str, Any], ...]

    @property
    def is_over(self) -> bool:
        """Whether every job there is has ended."""
        return all(job["status"] in FINAL for job in self.jobs)

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by status."""
        return dict(Counter(job["status"] for job in self.jobs))

    def status(self) -> str:
        """In words: ``6 succeeded, 2 running``, and what has no job."""
        words = [f"{count} {status.replace('_', ' ')}" for status, count in self.counts.items()]
        missing = self.size - len(self.jobs)
        return ", ".join([*words, f"{missing} not created"] if missing > 0 else words)

    def exit_code(self) -> ExitCode:
        """How a wait for all of them ends: the worst that happened to one, a failure before a cancellation. No job is a failure too."""
        codes = {exit_code_of_job(job) for job in self.jobs} | ({ExitCode.FAILED} if self.size > len(self.jobs) else set())
        return next((code for code in (ExitCode.FAILED, ExitCode.DATA_INVALID, ExitCode.CANCELLED) if code in codes), ExitCode.DONE)


def read_sweep(client: "openai.OpenAI", sweep_id: str) -> Sweep:
    """The sweep.

    Raises:
        NotFound: no job carries this id.
    """
    jobs = list(_marked(client, {SWEEP: sweep_id}))
    if not jobs:
        raise NotFound(f"No job belongs to a sweep {sweep_id!r}. See: luthier sweep list")
    return _sweep(sweep_id, jobs)


def read_sweeps(client: "openai.OpenAI", limit: int) -> list[Sweep]:
    """All sweeps, the one with the newest job first, ``limit`` of them at most."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for job in _marked(client, {}):
        by_id.setdefault(job["metadata"].get(SWEEP, ""), []).append(job)
    return [_sweep(sweep_id, jobs) for sweep_id, jobs in list(by_id.items())[:limit]]


def leaderboard(client: "openai.OpenAI", jobs: Iterable[Job]) -> list[Row]:
    """Every job's line: those that succeeded by held-out loss, the best first; then the others, likewise."""
    found = [(job, _measured(client, job)) for job in jobs]
    # Sorting is stable: of two with equal losses the one that was created first stands first.
    found.sort(key=lambda pair: (pair[0]["status"] != "succeeded", _loss(pair[1])))
    return [_row(job, metrics, number) for number, (job, metrics) in enumerate(found, start=1)]


def as_json(sweep: Sweep, rows: Sequence[Row]) -> dict[str, Any]:
    """The sweep and its leaderboard as plain JSON."""
    return {"object": "luthier.sweep", "id": sweep.id, "size": sweep.size, "counts": sweep.counts, "data": [asdict(row) for row in rows]}


def job_path(job_id: str) -> str:
    """Of the job, below ``/v1``."""
    return f"/fine_tuning/jobs/{quote(job_id, safe='')}"


def _marked(client: "openai.OpenAI", metadata: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """All jobs that a sweep made, and that carry this metadata too; newest first."""
    filters = {f"metadata[{name}]": value for name, value in {MARK: MADE_BY, **metadata}.items()}
    after = None
    while True:
        page = get(client, "/fine_tuning/jobs", limit=_PAGE, after=after, **filters)
        yield from page["data"]
        if not page["has_more"] or not page["data"]:
            return
        after = page["data"][-1]["id"]


def _sweep(sweep_id: str, newest_first: list[dict[str, Any]]) -> Sweep:
    newest: dict[str, dict[str, Any]] = {}
    for job in newest_first:
        newest.setdefault(job["metadata"].get(POINT, job["id"]), job)
    sizes = [int(text) for job in newest_first if (text := job["metadata"].get(SIZE, "")).isdecimal() and len(text) < 10]
    return Sweep(id=sweep_id, size=max([*sizes, len(newest)]), jobs=tuple(reversed(newest.values())))


def _measured(client: "openai.OpenAI", job: Job) -> Mapping[str, float]:
    """Of the checkpoint that became the tuned model; of the newest one that was measured where there is no model."""
    if job["status"] in ("validating_files", "queued"):
        return {}
    points = get(client, f"{job_path(job['id'])}/checkpoints", limit=1000)["data"]
    own = [p for p in points if p["fine_tuned_model_checkpoint"] == job["fine_tuned_model"]]
    measured = (p["metrics"] for p in own or points if p["metrics"].get("full_valid_loss") is not None)
    return next(measured, {})


def _loss(metrics: Mapping[str, float]) -> float:
    loss = metrics.get("full_valid_loss")
    return math.inf if loss is None or math.isnan(loss) else loss


def _row(job: Job, metrics: Mapping[str, float], number: int) -> Row:
    hyperparameters, options = job.get("hyperparameters") or {}, (job.get("luthier") or {}).get("options") or {}
    ended = job.get("finished_at")
    return Row(
        place=number if job["status"] == "succeeded" else None,
        point=job["metadata"].get(POINT, ""),
        held_out_loss=metrics.get("full_valid_loss"),
        token_accuracy=metrics.get("full_valid_mean_token_accuracy"),
        n_epochs=hyperparameters.get("n_epochs"),
        learning_rate_multiplier=hyperparameters.get("learning_rate_multiplier"),
        batch_size=hyperparameters.get("batch_size"),
        rank=options.get("rank"),
        alpha=options.get("alpha"),
        seed=job["seed"],
        minutes=round((ended - job["created_at"]) / 60, 2) if ended else None,
        status=job["status"],
        job=job["id"],
        fine_tuned_model=job.get("fine_tuned_model"),
        error=(job.get("error") or {}).get("message"),
    )
