"""``luthier sweep``: one training file, many settings, a leaderboard by the held-out loss; also list, show, wait and cancel.

What it does: creates ordinary fine-tuning jobs that carry the sweep's id as metadata, follows them, prints the leaderboard. What it
does not: train, or decide what trains beside what (the worker does), or remember a sweep: all of it is read from the API's jobs.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from luthier.cli.client import get, post
from luthier.cli.exit_codes import ExitCode, JobEnded, WaitDetached
from luthier.cli.jobs_create import source
from luthier.cli.options import AutoOr, Form, Place, pairs, with_form, with_place
from luthier.cli.output import Field, show_json, show_rows
from luthier.cli.printing import printable_output, sentence_of
from luthier.cli.render.text import number, plain, when
from luthier.cli.settings_file import read_settings
from luthier.cli.sweep_jobs import FINAL, Sweep, as_json, job_path, leaderboard, read_sweep, read_sweeps
from luthier.cli.sweep_plan import (
    MAX_OWN_METADATA,
    POINT,
    RESERVED,
    ListOf,
    Plan,
    Point,
    grid,
    identity,
    is_sweep_id,
    new_sweep_id,
    sweep_id,
)
from luthier.cli.upload import check_lines, upload
from luthier.cli.waiting import PATIENT_RETRIES
from luthier.core.errors import LuthierError, NotFound
from luthier.core.settings import Settings

if TYPE_CHECKING:
    import openai

_ENDPOINT = "/fine_tuning/jobs"
_PURPOSE = "fine-tune"
_GONE = ("failed", "cancelled")
_WHOLE = click.IntRange(1, 2_147_483_647)
_SEED = click.IntRange(0, 2_147_483_647)
AXES = ("epochs", "learning_rate_multiplier", "batch_size", "rank", "alpha", "seed")
"""Options that take several values, in the order in which the grid is walked."""

_COLUMNS = (
    Field("", lambda r: "" if r["place"] is None else str(r["place"]), whole=True),
    Field("held-out loss", lambda r: number(r["held_out_loss"], 4), whole=True),
    Field("accuracy", lambda r: number(r["token_accuracy"], 3), whole=True),
    Field("epochs", lambda r: _short(r["n_epochs"]), whole=True),
    Field("rate x", lambda r: _short(r["learning_rate_multiplier"]), whole=True),
    Field("batch", lambda r: _short(r["batch_size"]), whole=True),
    Field("rank", lambda r: _short(r["rank"]), whole=True),
    Field("alpha", lambda r: _short(r["alpha"]), whole=True),
    Field("seed", lambda r: str(r["seed"]), whole=True),
    Field("minutes", lambda r: number(r["minutes"], 1), whole=True),
    Field("status", lambda r: r["status"].replace("_", " "), whole=True),
    Field("job", lambda r: r["job"], whole=True),
    Field("tuned model", lambda r: r["fine_tuned_model"] or (r["error"] or ""), whole=False),
)
_ONLY_IF_DIFFERENT = ("alpha", "seed")
_LIST_COLUMNS = (
    Field("sweep", lambda s: s["id"], whole=True),
    Field("jobs", lambda s: str(s["size"]), whole=True),
    Field("status", lambda s: s["status"]),
    Field("model", lambda s: s["model"]),
    Field("created", lambda s: when(s["created_at"]), whole=True),
)


def _short(value: float | str | None) -> str:
    return f"{value:g}" if isinstance(value, int | float) else (value or "")


class _SweepGroup(click.Group):
    """``luthier sweep FILE ...`` is ``luthier sweep run FILE ...``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_SweepGroup,
    epilog="Example: luthier sweep train.jsonl --validation valid.jsonl --epochs 1,3,10 --rank 8,16",
)
def sweep() -> None:
    """Train one file with many settings, and see which is best on held-out rows.

    luthier sweep FILE ... begins one; its options: luthier sweep run --help
    """


def _sweep_name(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not is_sweep_id(value):
        raise click.BadParameter(f"{value!r} is not a sweep's id (sweep- and 12 digits or letters a to f). Ids: luthier sweep list")
    return value


def _own_metadata(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Raises click.BadParameter for a name that marks sweeps, and for too many."""
    found = pairs(context, parameter, values)
    for name in RESERVED:
        if name in found:
            raise click.BadParameter(f"{name!r} is what a sweep marks its jobs with.")
    if len(found) > MAX_OWN_METADATA:
        raise click.BadParameter(f"{len(found)} are too many: a sweep's job has room for {MAX_OWN_METADATA}.")
    return found


@sweep.command(
    epilog="Example: luthier sweep run train.jsonl --validation valid.jsonl --epochs 1,3,10 --learning-rate-multiplier 0.3,1,3 --rank 8,16"
)
@click.argument("file", callback=source)
@click.option("--validation", default=None, callback=source, help="Held-out rows, which decide: a local JSONL file or a file's id.")
@click.option("--model", default=None, help="The model to tune (default: LUTHIER_DEFAULT_BASE, else luthier-mini).")
@click.option("--epochs", type=ListOf(AutoOr(int)), default=None, help="Passes over the training file.")
@click.option("--learning-rate-multiplier", type=ListOf(AutoOr(float)), default=None, help="Times the base learning rate.")
@click.option("--batch-size", type=ListOf(AutoOr(int)), default=None, help="Examples per step.")
@click.option("--rank", type=ListOf(_WHOLE), default=None, help="Rank of the adapter.")
@click.option("--alpha", type=ListOf(click.FloatRange(0, min_open=True)), default=None, help="The adapter's scale.")
@click.option("--seed", type=ListOf(_SEED), default="0", show_default=True, help="One for all jobs, so that they differ by the rest alone.")
@click.option("--suffix", default=None, help="A word in the tuned models' names.")
@click.option("--priority", type=click.IntRange(-2, 2), default=None, help="Beside the project's other jobs (default 0).")
@click.option("--metadata", multiple=True, callback=_own_metadata, help="name=value kept with each job; repeatable.")
@click.option("--max-jobs", type=_WHOLE, default=50, show_default=True, help="A larger grid is refused.")
@click.option("--yes", is_flag=True, help="Do not ask before the jobs are created.")
@click.option("--detach", is_flag=True, help="Create the jobs, print where they stand, and do not wait.")
@click.option("--new", "anew", is_flag=True, help="Begin a new sweep where the same command has begun one before.")
@click.option("--dry-run", is_flag=True, help="Check local files, print the jobs, send nothing.")
@with_form
@with_place
def run(
    file: str | Path,
    validation: str | Path | None,
    max_jobs: int,
    yes: bool,
    detach: bool,
    dry_run: bool,
    place: Place,
    form: Form,
    **given: Any,
) -> None:
    """Train FILE once with every combination of the values given, and print the leaderboard.

    FILE is a local JSONL file or a file's id. Options that say "..." take several values with commas between them.
    The same command again goes on with the same sweep: it creates what is missing, failed or cancelled, and follows.
    """
    if validation is None:
        raise click.UsageError(
            "A sweep needs --validation: without held-out rows there is no loss to order by. Make some with: luthier data split FILE"
        )
    settings = read_settings(data_dir=place.data_dir)
    points = grid({name.replace("_", "-"): given[name] for name in AXES if given[name] is not None})
    if len(points) > max_jobs:
        raise click.UsageError(f"The grid has {len(points)} points, more than --max-jobs {max_jobs}.")
    files = {"training_file": file, "validation_file": validation}
    for path in files.values():
        if isinstance(path, Path):  # before anything is sent: a second file's fault must not leave the first one behind
            check_lines(path, settings)
    plan = _plan(files, points, settings, given)
    if dry_run:
        shown = {name: f"<id of {value}>" if isinstance(value, Path) else value for name, value in files.items()}
        show_json({"sweep": plan.id, "jobs": [plan.request(point, shown) for point in points]})
        return
    client = place.client()
    _create_missing(client, plan, files, yes=yes)
    if detach:
        _show(client, read_sweep(client, plan.id), form)
        click.echo(f"The jobs go on. Come back with: luthier sweep wait {plan.id}", err=True)
        return
    _wait(client, plan.id, form)


def _plan(files: Mapping[str, str | Path], points: tuple[Point, ...], settings: Settings, given: Mapping[str, Any]) -> Plan:
    shared = {"model": given["model"] or settings.default_base, **({"suffix": given["suffix"]} if given["suffix"] else {})}
    name = new_sweep_id() if given["anew"] else sweep_id([identity(f) for f in files.values()], points, shared)
    return Plan(id=name, points=points, shared=shared, metadata=given["metadata"], priority=given["priority"])


def _create_missing(client: "openai.OpenAI", plan: Plan, files: Mapping[str, str | Path], *, yes: bool) -> None:
    """Create the jobs of all points that have none, or one that came to nothing.

    Raises:
        click.UsageError: it was not agreed to.
        LuthierError: the server refused every one, or stopped taking them.
        WaitDetached: Ctrl-C.
    """
    jobs = _jobs_of(client, plan.id)
    standing = {job["metadata"].get(POINT) for job in jobs if job["status"] not in _GONE}
    missing = [point for point in plan.points if point.name not in standing]
    if jobs:
        click.echo(f"{plan.id} was begun before: {len(plan.points) - len(missing)} of its {len(plan.points)} jobs stand.", err=True)
    if not missing:
        return
    if not yes:
        _ask(len(missing))
    created, refusals = 0, list[str]()
    try:
        ids = {name: _stored(client, name, value, jobs) for name, value in files.items()}
        with click.progressbar(missing, label=f"Creating {plan.id}", file=sys.stderr) as bar:
            for point in bar:
                refusal = _create(client, plan.request(point, ids))
                created += refusal is None
                if refusal is not None:
                    refusals.append(f"{point.name}: {refusal}")
    except KeyboardInterrupt:
        raise WaitDetached(_halted(plan, created, len(missing))) from None
    except LuthierError as error:
        raise type(error)(f"{error.message} {_halted(plan, created, len(missing))}") from error
    for refusal in refusals:
        click.echo(f"Not created: {plain(refusal)}", err=True)
    if refusals and created + len(standing) == 0:
        raise JobEnded(f"The server refused every job of the sweep. The first one, {refusals[0]}", ExitCode.DATA_INVALID)
    click.echo(f"Created {created} {'job' if created == 1 else 'jobs'} of {plan.id}.", err=True)


def _ask(count: int) -> None:
    """Raises click.UsageError where nobody can answer, click.Abort for a no."""
    what = f"{count} fine-tuning {'job' if count == 1 else 'jobs'}"
    if not _someone_is_there():
        raise click.UsageError(f"This would create {what}; say --yes where nobody can be asked.")
    click.confirm(f"Create {what}?", default=True, abort=True, err=True)


def _someone_is_there() -> bool:
    return sys.stdin.isatty()


def _halted(plan: Plan, created: int, missing: int) -> str:
    rest = f"{created} of {missing} jobs were created and go on" if created else "No job was created"
    return (
        f"{rest}; the same command creates the rest. See: luthier sweep show {plan.id}"
        if created
        else f"{rest}; try the same command again."
    )


def _create(client: "openai.OpenAI", body: dict[str, Any]) -> str | None:
    """Create a job; what the server said where it refuses this one.

    Raises:
        LuthierError: it would refuse the next one too: no server, a wrong key, a limit.
    """
    import openai

    try:
        post(client, _ENDPOINT, body)
    except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
        return sentence_of(error).message
    except openai.APIError as error:
        raise sentence_of(error) from error
    return None


def _stored(client: "openai.OpenAI", field: str, value: str | Path, jobs: list[dict[str, Any]]) -> str:
    """The id of a file: its own, that of an earlier job of the sweep while the server has the file, else of a new upload."""
    import openai

    if isinstance(value, str):
        return value
    try:
        for job in jobs[-1:]:
            try:
                return get(client, f"/files/{job[field]}")["id"]
            except openai.NotFoundError:
                click.echo(f"{job[field]} is gone from the server.", err=True)
        file_id = upload(client, value, _PURPOSE)["id"]
    except openai.APIError as error:
        raise sentence_of(error) from error
    click.echo(f"Uploaded {value} as {file_id}.", err=True)
    return file_id


def _jobs_of(client: "openai.OpenAI", name: str) -> list[dict[str, Any]]:
    try:
        return list(read_sweep(client, name).jobs)
    except NotFound:
        return []


def _wait(client: "openai.OpenAI", name: str, form: Form) -> None:
    """Follow the jobs, print the leaderboard.

    Raises:
        JobEnded: not every one succeeded.
        WaitDetached: Ctrl-C.
    """
    from rich.console import Console

    from luthier.cli.sweep_follow import follow_sweep

    printable_output()
    try:
        read_sweep(client, name)  # a wrong id or address ends the wait at once
        patient = client.with_options(max_retries=PATIENT_RETRIES)
        found = follow_sweep(patient, name, Console(stderr=True))
        _show(patient, found, form)
    except KeyboardInterrupt:
        raise WaitDetached(f"No longer waiting; the jobs of {name} go on. Come back with: luthier sweep wait {name}") from None
    if (code := found.exit_code()) is not ExitCode.DONE:
        raise JobEnded(f"Not every job of {name} succeeded: {found.status()}. Look at one with: luthier trace JOB", code)


def _show(client: "openai.OpenAI", found: Sweep, form: Form) -> None:
    rows = leaderboard(client, found.jobs)
    if form.as_json:
        show_json(as_json(found, rows))
        return
    if form.quiet:
        for row in rows:
            click.echo(row.job)
        return
    click.echo(f"{found.id}: {found.status()}")
    lines = as_json(found, rows)["data"]
    same = {name for name in _ONLY_IF_DIFFERENT if len({line[name] for line in lines}) == 1}
    show_rows(lines, [column for column in _COLUMNS if column.title not in same], form)


@sweep.command(epilog="Example: luthier sweep show sweep-0123456789ab --json")
@click.argument("sweep_id", callback=_sweep_name)
@with_form
@with_place
def show(sweep_id: str, place: Place, form: Form) -> None:
    """Show the leaderboard of the sweep SWEEP_ID as it stands now, the best job first."""
    client = place.client()
    _show(client, read_sweep(client, sweep_id), form)


@sweep.command(epilog="Example: luthier sweep wait sweep-0123456789ab")
@click.argument("sweep_id", callback=_sweep_name)
@with_form
@with_place
def wait(sweep_id: str, place: Place, form: Form) -> None:
    """Wait for the end of all jobs of the sweep SWEEP_ID, and show its leaderboard. Ctrl-C leaves the jobs running."""
    _wait(place.client(), sweep_id, form)


@sweep.command(name="list", epilog="Example: luthier sweep list --limit 5")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at most.")
@with_form
@with_place
def list_sweeps(limit: int, place: Place, form: Form) -> None:
    """List sweeps, the newest first."""
    found = [
        {
            "object": "luthier.sweep",
            "id": one.id,
            "size": one.size,
            "counts": one.counts,
            "status": one.status(),
            "model": one.jobs[0]["model"],
            "created_at": one.jobs[0]["created_at"],
        }
        for one in read_sweeps(place.client(), limit)
    ]
    if form.as_json:
        show_json({"object": "list", "data": found})
    elif form.quiet:
        for one in found:
            click.echo(one["id"])
    elif found:
        show_rows(found, _LIST_COLUMNS, form)
    else:
        click.echo("Nothing there yet.", err=True)


@sweep.command(epilog="Example: luthier sweep cancel sweep-0123456789ab")
@click.argument("sweep_id", callback=_sweep_name)
@with_form
@with_place
def cancel(sweep_id: str, place: Place, form: Form) -> None:
    """Cancel every job of the sweep SWEEP_ID that has not ended; what has succeeded stays."""
    import openai

    client = place.client()
    for job in read_sweep(client, sweep_id).jobs:
        if job["status"] not in FINAL:
            try:
                post(client, f"{job_path(job['id'])}/cancel")
            except (openai.BadRequestError, openai.ConflictError) as error:
                if get(client, job_path(job["id"]))["status"] not in FINAL:  # else it ended meanwhile, which is as well
                    _not_cancelled(job["id"], error)
    _show(client, read_sweep(client, sweep_id), form)


def _not_cancelled(job_id: str, error: Exception) -> NoReturn:
    raise LuthierError(f"{sentence_of(error).message} See: luthier jobs get {job_id}") from error
