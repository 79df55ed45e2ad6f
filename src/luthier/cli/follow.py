"""Follows a job to its end, with a live progress bar fed by the job's own events.

What it does: reads pages of events, shows steps, loss and accuracy, prints an epoch's row when it is done. What it does not:
show progress that no event told: a bar that waits says for what. Called by ``cli/trace.py`` and ``cli/demo.py``.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from luthier.cli.job_events import read_more
from luthier.cli.render.stages import TITLES
from luthier.cli.render.text import literal, number
from luthier.cli.render.work import rate_text
from luthier.trace.view import TraceView

if TYPE_CHECKING:
    import openai

POLL_SECONDS = 0.25
FINAL = ("succeeded", "failed", "cancelled")
# After the job is final its last events may still be on their way into the log.
_LAST_EVENTS_SECONDS = 3.0


def follow(
    client: "openai.OpenAI",
    job_id: str,
    console: Console,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> TraceView:
    """Wait until the job is final; returns everything its events told."""
    view = TraceView()
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    told: set[int] = set()
    with progress:
        task = progress.add_task("waiting for a worker", total=None)
        while True:
            status = client.fine_tuning.jobs.retrieve(job_id).status
            while read_more(client, job_id, view):
                pass
            _show(progress, task, view, status)
            _tell_epochs(progress.console, view, told)
            if status in FINAL:
                break
            sleep(POLL_SECONDS)
        deadline = clock() + _LAST_EVENTS_SECONDS
        while view.finished is None and clock() < deadline:
            sleep(POLL_SECONDS)
            read_more(client, job_id, view)
    return view


def _show(progress: Progress, task: TaskID, view: TraceView, status: str) -> None:
    if status == "paused":
        progress.update(task, description="paused")
        return
    running = [s for s in view.stages.values() if s.status == "running"]
    steps = view.ordered_steps()
    if not steps:
        what = TITLES[running[-1].stage].lower() if running else status.replace("_", " ")
        progress.update(task, description=what)
        return
    last = steps[-1]
    what = "training" if last.step < last.total_steps else (TITLES[running[-1].stage].lower() if running else "finishing")
    description = f"{what}  loss {number(last.loss)}  accuracy {number(last.token_accuracy)}  {rate_text(last)}"
    progress.update(task, description=description, total=last.total_steps, completed=last.step)


def _tell_epochs(console: Console, view: TraceView, told: set[int]) -> None:
    if view.base is not None and 0 not in told:
        told.add(0)
        which = "held-out rows" if view.base.held_out else "training rows"
        console.print(Text(f"base       {which}: loss {number(view.base.loss)}, token accuracy {number(view.base.accuracy)}", style="dim"))
    fresh = [row for row in view.ordered_epochs() if row.epoch not in told]
    observations = view.observations() if fresh else {}
    for row in fresh:
        told.add(row.epoch)
        line = Text(f"epoch {row.epoch}/{row.n_epochs}  train {number(row.train_loss)} / {number(row.train_accuracy)}  ")
        line.append(f"held out {number(row.valid_loss)} / {number(row.valid_accuracy)}  ")
        console.print(line.append_text(literal(observations[row.epoch], "dim")))
