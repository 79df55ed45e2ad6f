"""Follows a sweep's jobs to the end of all of them: one bar for the sweep, one for each job that trains, on standard error.

What it does: asks for all jobs at once, and for the trace of those that train; tells each end in a line of its own. What it does
not: order them (``cli/sweep_jobs.py``). Called by ``cli/sweep.py``.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from luthier.cli.follow import FINAL
from luthier.cli.job_events import read_more
from luthier.cli.render.text import literal, number, plain
from luthier.cli.sweep_jobs import Sweep, leaderboard, read_sweep
from luthier.cli.sweep_plan import POINT
from luthier.trace.view import TraceView

if TYPE_CHECKING:
    import openai

POLL_SECONDS = 1.0
MOST_BARS = 10
"""A terminal has some two dozen lines; jobs beyond these are counted in the sweep's own line."""


def follow_sweep(client: "openai.OpenAI", sweep_id: str, console: Console, *, sleep: Callable[[float], None] = time.sleep) -> Sweep:
    """Wait until every job of the sweep is final; returns them."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        display = _Display(client, progress, sweep_id)
        while True:
            sweep = read_sweep(client, sweep_id)
            display.show(sweep)
            if sweep.is_over:
                return sweep
            sleep(POLL_SECONDS)


class _Display:
    """What is on the screen of one sweep."""

    def __init__(self, client: "openai.OpenAI", progress: Progress, sweep_id: str) -> None:
        self._client, self._progress = client, progress
        self._whole = progress.add_task(sweep_id, total=None)
        self._views: dict[str, TraceView] = {}
        self._bars: dict[str, TaskID] = {}
        self._told: set[str] = set()

    def show(self, sweep: Sweep) -> None:
        """The jobs as they are now."""
        ended = [job for job in sweep.jobs if job["status"] in FINAL]
        for job in ended:
            if job["id"] not in self._told:
                self._told.add(job["id"])
                self._tell(job, len(self._told), len(sweep.jobs))
        self._progress.update(self._whole, description=f"{sweep.id}: {sweep.status()}", total=len(sweep.jobs), completed=len(ended))
        training = [job for job in sweep.jobs if job["status"] == "running"][:MOST_BARS]
        for job_id in self._bars.keys() - {job["id"] for job in training}:
            self._progress.remove_task(self._bars.pop(job_id))
        for job in training:
            self._bar(job)

    def _bar(self, job: dict[str, Any]) -> None:
        view = self._views.setdefault(job["id"], TraceView())
        while read_more(self._client, job["id"], view):
            pass
        if job["id"] not in self._bars:
            self._bars[job["id"]] = self._progress.add_task("", total=None)
        # A description is read as markup.
        title = plain(job["metadata"].get(POINT, job["id"]), max_length=60).replace("[", r"\[")
        steps = view.ordered_steps()
        if steps:
            last = steps[-1]
            title = f"{title}  loss {number(last.loss)}"
            self._progress.update(self._bars[job["id"]], description=f"  {title}", total=last.total_steps, completed=last.step)
        else:
            self._progress.update(self._bars[job["id"]], description=f"  {title}")

    def _tell(self, job: dict[str, Any], count: int, total: int) -> None:
        self._views.pop(job["id"], None)
        (row,) = leaderboard(self._client, [job])
        if row.status == "succeeded":
            reached = f"held-out loss {number(row.held_out_loss, 4)}, token accuracy {number(row.token_accuracy)}"
        else:
            reached = f"{row.status}{f': {row.error}' if row.error else ''}"
        self._progress.console.print(literal(f"{count} of {total}  {row.point}  {reached}  ({row.job})"), soft_wrap=True)
