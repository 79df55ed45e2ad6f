"""Waits for a job: steps and loss on standard error while they come, the job on standard output at the end.

What it does: turns how it ended into an exit code; Ctrl-C leaves the job running. What it does not: read trace events
(``cli/follow.py``). Called by ``cli/jobs.py`` and ``cli/jobs_create.py``.
"""

from typing import TYPE_CHECKING
from urllib.parse import quote

from rich.console import Console

from luthier.cli.client import get
from luthier.cli.exit_codes import ExitCode, JobEnded, WaitDetached, exit_code_of_job
from luthier.cli.follow import follow
from luthier.cli.options import Form
from luthier.cli.output import Field, Item, show_object
from luthier.cli.printing import printable_output
from luthier.cli.render.text import seconds, when

if TYPE_CHECKING:
    import openai

PATIENT_RETRIES = 8
"""Of each request once the wait has begun: a restart of the server, about forty seconds, must not end it."""


def duration(job: Item) -> str:
    """From creation to end; nothing while it lasts."""
    return seconds(job["finished_at"] - job["created_at"]) if job.get("finished_at") else ""


def _error(job: Item) -> str:
    return str((job.get("error") or {}).get("message") or "")


def _hyperparameters(job: Item) -> str:
    return ", ".join(f"{name} {value}" for name, value in (job.get("hyperparameters") or {}).items() if value is not None)


LINES = (
    Field("job", lambda j: j["id"]),
    Field("status", lambda j: j["status"].replace("_", " ")),
    Field("why", lambda j: str((j.get("luthier") or {}).get("status_reason") or "")),
    Field("model", lambda j: j["model"]),
    Field("trained on", lambda j: str((j.get("luthier") or {}).get("base") or "")),
    Field("tuned model", lambda j: j.get("fine_tuned_model") or ""),
    Field("training file", lambda j: j["training_file"]),
    Field("validation file", lambda j: j.get("validation_file") or ""),
    Field("hyperparameters", _hyperparameters),
    Field("seed", lambda j: str(j.get("seed"))),
    Field("suffix", lambda j: j.get("user_provided_suffix") or ""),
    Field("metadata", lambda j: ", ".join(f"{k}={v}" for k, v in (j.get("metadata") or {}).items())),
    Field("created", lambda j: when(j["created_at"])),
    Field("took", duration),
    Field("trained tokens", lambda j: f"{j['trained_tokens']:,}" if j.get("trained_tokens") else ""),
    Field("result files", lambda j: ", ".join(j.get("result_files") or ())),
    Field("error", _error),
)


def wait_for(client: "openai.OpenAI", job_id: str, form: Form) -> None:
    """Wait until the job is final, and print it.

    Raises:
        JobEnded: it failed or was cancelled.
        WaitDetached: Ctrl-C.
    """
    printable_output()
    path = f"/fine_tuning/jobs/{quote(job_id, safe='')}"
    try:
        get(client, path)  # a wrong id or address ends the wait at once
        patient = client.with_options(max_retries=PATIENT_RETRIES)
        follow(patient, job_id, Console(stderr=True))
        job = get(patient, path)
    except KeyboardInterrupt:
        raise WaitDetached(f"No longer waiting; {job_id} goes on. Wait again with: luthier jobs wait {job_id}") from None
    show_object(job, LINES, form)
    code = exit_code_of_job(job)
    if code is ExitCode.CANCELLED:
        raise JobEnded(f"{job_id} was cancelled. What it did: luthier trace {job_id}", code)
    if code is not ExitCode.DONE:
        raise JobEnded(f"{job_id} failed: {_error(job)} Look at it with: luthier trace {job_id}", code)
