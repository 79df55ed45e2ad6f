"""``luthier trace JOB``: the pipeline trace in the terminal.

What it does: reads a job's events over HTTP and prints them; ``--follow`` waits for the end; ``--prompt`` traces a new
prompt live, on base and tuned model. What it does not: draw (``cli/render``) or read a server's files.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from luthier.cli.client import client_of, find_server, render_tokens
from luthier.cli.follow import follow
from luthier.cli.job_events import read_view
from luthier.cli.printing import client_errors, printable_output
from luthier.cli.render.prediction import prediction
from luthier.cli.render.report import MAX_WIDTH, print_report
from luthier.core.errors import InvalidRequest

if TYPE_CHECKING:
    import openai

MAX_TRACED_TOKENS = 64
ALTERNATIVES = 20


@click.command(epilog="Example: luthier trace ftjob-abc123 --follow")
@click.argument("job")
@click.option("--url", default=None, help="The server's address (default: the one that the data directory names).")
@click.option("--api-key", default=None, help="Its key (default: the one in the data directory).")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="The server's data directory (default ./luthier-data).")
@click.option("--follow", "keep_following", is_flag=True, help="Wait for the end of a running job, with a progress bar.")
@click.option("--prompt", default=None, help="Trace this prompt on base and tuned model instead of the job's own one.")
def trace(job: str, url: str | None, api_key: str | None, data_dir: Path | None, keep_following: bool, prompt: str | None) -> None:
    """Show the five stages of JOB, its training curve, and one of its predictions."""
    printable_output()
    console = Console()
    client = client_of(find_server(url=url, api_key=api_key, data_dir=data_dir))
    with client_errors():
        if prompt is not None:
            console.print(prediction(trace_prompt(client, job, prompt)), width=min(console.width, MAX_WIDTH))
            return
        view = follow(client, job, console) if keep_following else read_view(client, job)
    print_report(console, view)


def trace_prompt(client: "openai.OpenAI", job_id: str, prompt: str) -> dict[str, Any]:
    """Tier A for any prompt, live; shaped as ``trace/view.py`` tells.

    Raises:
        InvalidRequest: the job has no model yet.
    """
    job = client.fine_tuning.jobs.retrieve(job_id)
    tuned = job.fine_tuned_model
    if tuned is None:
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job_id).data
        if not checkpoints:
            raise InvalidRequest(f"{job_id} is {job.status} and has neither a model nor a checkpoint to ask.")
        tuned = checkpoints[0].fine_tuned_model_checkpoint
    own: dict[str, Any] = (job.model_extra or {}).get("luthier") or {}
    base = str(own.get("base", job.model))
    messages = [{"role": "user", "content": prompt}]
    return {
        "prompt": prompt,
        "held_out": True,
        "prompt_tokens": render_tokens(client, tuned, messages),
        "base": traced_answer(client, base, messages),
        "tuned": traced_answer(client, tuned, messages),
    }


def traced_answer(client: "openai.OpenAI", model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """One greedy answer with the probabilities of its tokens and their alternatives."""
    asked: Any = messages
    answer = client.chat.completions.create(
        model=model, messages=asked, temperature=0, max_tokens=MAX_TRACED_TOKENS, logprobs=True, top_logprobs=ALTERNATIVES
    )
    choice = answer.choices[0]
    tokens = (choice.logprobs.content if choice.logprobs is not None else None) or []
    path = [
        {
            "token": t.token,
            "probability": math.exp(t.logprob),
            "top": [{"token": a.token, "probability": math.exp(a.logprob)} for a in t.top_logprobs],
        }
        for t in tokens
    ]
    return {"answer": choice.message.content or "", "path": path}
