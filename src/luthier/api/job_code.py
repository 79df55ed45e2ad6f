"""The calls that make a job like this one once more: with the official SDK, with curl, and on the command line.

What it does: writes them from the job's own row, with the numbers that were decided, the seed among them, so that the same files give the
same run. What it does not: know a key or an address; both come from the environment. Pure. Called by ``job_view.py``.
"""

import json
import shlex
from typing import Any

from luthier.core.jobs import Job

_CREATE = "fine_tuning/jobs"


def job_code(job: Job) -> dict[str, str]:
    """``{"python", "curl", "cli"}``, each a whole program."""
    body = request_of(job)
    return {"python": _python(body), "curl": _curl(body), "cli": _cli(job, body)}


def request_of(job: Job) -> dict[str, Any]:
    """The body of ``POST /v1/fine_tuning/jobs``."""
    hyperparameters = {name: value for name, value in job.hyperparameters.items() if value != "auto"}
    method = {"type": job.method, job.method: {"hyperparameters": hyperparameters}} if hyperparameters else {"type": job.method}
    body: dict[str, Any] = {
        "model": job.parent_model or job.model,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "method": method,
        "seed": job.seed,
        "suffix": job.suffix,
        "metadata": job.metadata,
        "luthier": job.options or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _python(body: dict[str, Any]) -> str:
    named = {name: value for name, value in body.items() if name != "luthier"}
    if "luthier" in body:
        named["extra_body"] = {"luthier": body["luthier"]}
    lines = [f"    {name}={_literal(value)},  " for name, value in named.items()]
    arguments = "\n".join(line.rstrip() for line in lines)
    return (
        "from openai import OpenAI\n\n"
        "client = OpenAI()  # reads OPENAI_BASE_URL and OPENAI_API_KEY\n"
        f"job = client.fine_tuning.jobs.create(\n{arguments}\n)\n"
        "print(job.id)\n"
    )


def _literal(value: Any) -> str:
    return repr(value)


def _curl(body: dict[str, Any]) -> str:
    return (
        f'curl -sS "$OPENAI_BASE_URL/{_CREATE}" \\\n'
        '  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False, indent=2))}\n"
    )


def _cli(job: Job, body: dict[str, Any]) -> str:
    given: list[tuple[str, str]] = [("--model", str(body["model"])), ("--training-file", job.training_file)]
    if job.validation_file:
        given.append(("--validation-file", job.validation_file))
    given.append(("--method", job.method))
    hyperparameters = body["method"].get(job.method, {}).get("hyperparameters", {})
    given += [(f"--{name.replace('_', '-')}", str(value)) for name, value in hyperparameters.items()]
    given.append(("--seed", str(job.seed)))
    if job.suffix:
        given.append(("--suffix", job.suffix))
    given += [("--metadata", f"{name}={value}") for name, value in (job.metadata or {}).items()]
    given += [("--option", f"{name}={_option(value)}") for name, value in job.options.items()]
    return "luthier jobs create" + "".join(f" \\\n  {flag} {shlex.quote(value)}" for flag, value in given) + "\n"


def _option(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
