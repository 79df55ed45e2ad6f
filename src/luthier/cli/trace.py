"""``luthier trace JOB``: the pipeline trace in the terminal.

What it does: reads a job's events over HTTP and prints them; ``--follow`` waits for the end; ``--prompt`` traces a new
prompt live, on base and tuned model, through all layers; ``--html`` writes the job as a page instead. What it does not: draw
(``cli/render``), fill the page (``cli/job_page.py``) or read a server's files.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from luthier.cli.client import client_of, find_server, post
from luthier.cli.files import write_whole
from luthier.cli.follow import follow
from luthier.cli.job_events import read_view
from luthier.cli.job_page import JobPage, job_page
from luthier.cli.printing import client_errors, printable_output
from luthier.cli.render.layers import layers
from luthier.cli.render.prediction import prediction
from luthier.cli.render.report import MAX_WIDTH, print_report
from luthier.cli.render.text import size
from luthier.core.errors import InvalidRequest

if TYPE_CHECKING:
    import openai


@click.command(epilog="Example: luthier trace ftjob-abc123 --follow")
@click.argument("job", required=False)
@click.option("--url", default=None, help="The server's address (default: the one that the data directory names).")
@click.option("--api-key", default=None, help="Its key (default: the one in the data directory).")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
@click.option("--follow", "keep_following", is_flag=True, help="Wait for the end of a running job, with a progress bar.")
@click.option("--prompt", default=None, help="Look into one prediction: this prompt on the job's model and its base, layer by layer.")
@click.option("--model", default=None, help="With --prompt: the model to look into, instead of the job's.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    default=None,
    metavar="FILE",
    help="Write the dashboard's nine views of JOB, and of a --prompt, into one file, for a browser without a server; - is stdout.",
)
def trace(
    job: str | None,
    url: str | None,
    api_key: str | None,
    data_dir: Path | None,
    keep_following: bool,
    prompt: str | None,
    model: str | None,
    html: Path | None,
) -> None:
    """Show the five stages of JOB, its training curve, and one of its predictions."""
    printable_output()
    console = Console(stderr=html is not None)
    if html is not None:
        if job is None or (model is not None and prompt is None):
            raise click.UsageError("--html writes a JOB; --model goes with a --prompt.")
        with client_errors():
            client = client_of(find_server(url=url, api_key=api_key, data_dir=data_dir))
            if keep_following:
                follow(client, job, console)
            traced = None if prompt is None else trace_prompt(client, model or model_of(client, job), prompt)
            _write(html, job_page(client, job, traced=traced))
        return
    client = client_of(find_server(url=url, api_key=api_key, data_dir=data_dir))
    with client_errors():
        if prompt is not None:
            asked = model if model is not None else model_of(client, job) if job is not None else None
            if asked is None:
                raise InvalidRequest("Name the model to trace: a JOB, or --model.")
            _print_prediction(console, trace_prompt(client, asked, prompt), prompt)
            return
        if job is None:
            raise InvalidRequest("Name a JOB, or a prompt with --prompt and a model with --model.")
        view = follow(client, job, console) if keep_following else read_view(client, job)
    print_report(console, view)


def _write(html: Path, page: JobPage) -> None:
    if html == Path("-"):
        sys.stdout.buffer.write(page.content)
        sys.stdout.buffer.flush()
    else:
        write_whole(html, [page.content])
        click.echo(f"Wrote {html} ({size(len(page.content))}).", err=True)
    for sentence in page.left_out:
        click.echo(f"Not in the page, or cut: {sentence}", err=True)


def model_of(client: "openai.OpenAI", job_id: str) -> str:
    """The job's model, or its newest checkpoint.

    Raises:
        InvalidRequest: the job has no model yet.
    """
    job = client.fine_tuning.jobs.retrieve(job_id)
    if job.fine_tuned_model is not None:
        return job.fine_tuned_model
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id).data
    if not checkpoints:
        raise InvalidRequest(f"{job_id} is {job.status} and has neither a model nor a checkpoint to ask.")
    return checkpoints[0].fine_tuned_model_checkpoint


def trace_prompt(client: "openai.OpenAI", model: str, prompt: str) -> dict[str, Any]:
    """All tiers for one prompt, as ``core/prediction.py`` tells."""
    asked = {"model": model, "messages": [{"role": "user", "content": prompt}], "tiers": ["A", "B", "C"], "nearest": True}
    return post(client, "/luthier/trace", asked)


def _print_prediction(console: Console, told: dict[str, Any], prompt: str) -> None:
    width = min(console.width, MAX_WIDTH)
    shown = {**told, "prompt": prompt, "base": told["base_side"]}
    console.print(prediction(shown), width=width)
    console.print(layers(told), width=width)
