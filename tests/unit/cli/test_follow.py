"""The live bar of a job that is followed."""

import io

from rich.console import Console
from rich.progress import Progress

from luthier.cli.follow import _show
from luthier.trace.view import view_of
from tests.support.trace_logs import whole_run


def test_a_paused_job_does_not_look_as_if_it_trained() -> None:
    progress = Progress(console=Console(file=io.StringIO()))
    task = progress.add_task("waiting for a worker", total=None)
    view = view_of(whole_run())
    _show(progress, task, view, "running")
    assert progress.tasks[0].description != "paused"
    _show(progress, task, view, "paused")
    assert progress.tasks[0].description == "paused"
