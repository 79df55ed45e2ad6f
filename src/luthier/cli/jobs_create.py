"""``luthier jobs create``: a fine-tuning job from a file's id or from a local file, which is uploaded first.

What it does: builds the request, shows it without sending anything (``--dry-run``), waits when asked (``cli/waiting.py``).
What it does not: check rows; the server does.
"""

from pathlib import Path
from typing import Any

import click

from luthier.cli.client import post
from luthier.cli.options import AutoOr, Form, Place, pairs, refuse_beta, training_options, with_form, with_place
from luthier.cli.output import show_json, show_object
from luthier.cli.settings_file import read_settings
from luthier.cli.upload import check_lines, upload
from luthier.cli.waiting import LINES, wait_for

_PURPOSE = "fine-tune"
_ENDPOINT = "/fine_tuning/jobs"
OPTION_HELP = "name=value of luthier's own training options, such as adapter=rslora or schedule=cosine; repeatable."


def source(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | Path | None:
    """An existing file as its path, an id as it is; a click callback.

    Raises:
        click.BadParameter: neither.
    """
    if value is None:
        return None
    path = Path(value)
    if path.is_file():
        return path
    if value.startswith("file-"):
        return value
    raise click.BadParameter(f"{value!r} is neither a local file nor a file's id (file-...). Ids: luthier files list")


@click.command(epilog="Example: luthier jobs create --training-file train.jsonl --n-epochs 3 --wait")
@click.option("--model", default=None, help="The model to tune (default: LUTHIER_DEFAULT_BASE, else luthier-mini).")
@click.option("--training-file", "training", required=True, callback=source, help="A local JSONL file, uploaded first, or a file's id.")
@click.option("--validation-file", "validation", default=None, callback=source, help="Held-out rows, likewise.")
@click.option("--suffix", default=None, help="A word in the tuned model's name.")
@click.option("--seed", type=click.IntRange(0, 2_147_483_647), default=None, help="Makes a run repeatable.")
@click.option("--method", type=click.Choice(["supervised", "dpo"]), default=None, help="What the rows are for (default: supervised).")
@click.option(
    "--beta",
    type=AutoOr(float),
    default=None,
    help="With dpo: how dearly leaving the reference is paid; by the loss orpo, what the odds count.",
)
@click.option("--n-epochs", type=AutoOr(int), default=None, help="Passes over the training file.")
@click.option("--batch-size", type=AutoOr(int), default=None, help="Examples per step.")
@click.option("--learning-rate-multiplier", type=AutoOr(float), default=None, help="Times the base learning rate.")
@click.option("--option", "luthier", multiple=True, callback=training_options, help=OPTION_HELP)
@click.option("--metadata", multiple=True, callback=pairs, help="name=value kept with the job; repeatable.")
@click.option("--wait", is_flag=True, help="Wait for the end, with steps and loss; the exit code tells how it ended.")
@click.option("--dry-run", is_flag=True, help="Check local files, print the request, send nothing.")
@with_form
@with_place
def create(
    model: str | None,
    training: str | Path,
    validation: str | Path | None,
    wait: bool,
    dry_run: bool,
    place: Place,
    form: Form,
    **options: Any,
) -> None:
    """Create a fine-tuning job; local files are uploaded first."""
    refuse_beta(options["method"], options["beta"])
    settings = read_settings(data_dir=place.data_dir)
    files = {"training_file": training, **({} if validation is None else {"validation_file": validation})}
    body = {"model": model or settings.default_base, **files, **_fields(options)}
    if dry_run:
        uploads = [
            {"path": str(path), "bytes": check_lines(path, settings), "purpose": _PURPOSE}
            for path in files.values()
            if isinstance(path, Path)
        ]
        shown = {name: f"<id of {value}>" if isinstance(value, Path) else value for name, value in body.items()}
        show_json({"uploads": uploads, "request": {"method": "POST", "path": f"/v1{_ENDPOINT}", "body": shown}})
        return
    client = place.client()
    for path in files.values():
        if isinstance(path, Path):  # before anything is sent: a second file's fault must not leave the first one behind
            check_lines(path, settings)
    for name, path in files.items():
        if isinstance(path, Path):
            body[name] = upload(client, path, _PURPOSE)["id"]
            click.echo(f"Uploaded {path} as {body[name]}.", err=True)
    job = post(client, _ENDPOINT, body)
    if not wait:
        show_object(job, LINES, form)
        return
    click.echo(f"Created {job['id']}.", err=True)
    wait_for(client, job["id"], form)


def _fields(options: dict[str, Any]) -> dict[str, Any]:
    """The request's optional fields that were given; hyperparameters where the current API has them."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier", "beta")
    hyperparameters = {name: options[name] for name in names if options[name] is not None}
    fields: dict[str, Any] = {name: options[name] or None for name in ("suffix", "metadata", "luthier")}
    fields["seed"] = options["seed"]
    method = options["method"] or "supervised"
    if hyperparameters:
        fields["method"] = {"type": method, method: {"hyperparameters": hyperparameters}}
    elif options["method"] is not None:
        fields["method"] = {"type": method}
    return {name: value for name, value in fields.items() if value is not None}
