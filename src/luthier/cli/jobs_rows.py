"""``luthier jobs rows``: the losses of a job's training lines, the highest first.

What it does: speaks HTTP and prints. What it does not: measure before training (``cli/data_losses.py`` does, without a job).
"""

from urllib.parse import quote

import click

from luthier.cli.client import get
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, show_json, show_rows
from luthier.cli.render.text import number

COLUMNS = (
    Field("line", lambda r: str(r["line"])),
    Field("loss", lambda r: number(r["loss"], 3)),
    Field("in the first epoch", lambda r: number(r["first_loss"], 3)),
    Field("trained tokens", lambda r: f"{r['tokens']:,}"),
)


@click.command(epilog="Example: luthier jobs rows ftjob-abc123 --limit 10")
@click.argument("job_id")
@click.option("--epoch", type=click.IntRange(min=1), default=None, help="Of this epoch (default: the latest that is over).")
@click.option(
    "--order",
    type=click.Choice(["loss", "fall", "line"]),
    default="loss",
    show_default=True,
    help="loss: the highest first; fall: what has fallen least since the first epoch first; line: as in the file.",
)
@click.option("--limit", type=click.IntRange(1, 10000), default=20, show_default=True, help="How many at most.")
@click.option("--after", type=click.IntRange(min=1), default=None, help="Go on after this line.")
@with_form
@with_place
def rows(job_id: str, epoch: int | None, order: str, limit: int, after: int | None, place: Place, form: Form) -> None:
    """Show which lines of the training file the job JOB_ID learned worst: each line's mean loss in one epoch, as its steps had it."""
    path = f"/luthier/jobs/{quote(job_id, safe='')}/row_losses"
    page = get(place.client(), path, epoch=epoch, order=order, limit=limit, after=after)
    if form.as_json:
        show_json(page)
        return
    if form.quiet:
        for row in page["data"]:
            click.echo(row["line"])
        return
    if page["epoch"] is None:
        click.echo("No epoch is over yet, or the method has no loss by line.", err=True)
        return
    click.echo(f"Epoch {page['epoch']}; over are {', '.join(map(str, page['epochs']))}.", err=True)
    show_rows(page["data"], COLUMNS, form)
    if page["has_more"] and page["data"]:
        click.echo(f"More: luthier jobs rows {job_id} --epoch {page['epoch']} --order {order} --after {page['data'][-1]['line']}", err=True)
