"""``luthier keys`` and ``luthier projects``: who may use a server: create, list, revoke.

What it does: speaks to ``/v1/luthier/keys`` and ``/v1/luthier/projects`` and prints what came of it; a new key stands on standard
output once. What it does not: keep keys, decide anything.
"""

from typing import Any
from urllib.parse import quote

import click

from luthier.cli.client import delete, get, post
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, Item, show_object, show_page
from luthier.cli.printing import printable_output
from luthier.cli.render.text import when

_KEYS = "/luthier/keys"
_PROJECTS = "/luthier/projects"


def _moment(name: str) -> Field:
    def text(item: Item) -> str:
        return when(item[name]) if item.get(name) else ""

    return Field(name.removesuffix("_at"), text, whole=True)


def _limits(key: Item) -> str:
    own = {name: value for name, value in key["limits"].items() if value is not None}
    return ", ".join(f"{name} {value or 'unlimited'}" for name, value in own.items())


FIELDS = (
    Field("id", lambda k: k["id"], whole=True),
    Field("name", lambda k: k["name"]),
    Field("role", lambda k: k["role"], whole=True),
    Field("project", lambda k: k["project_id"], whole=True),
    Field("key", lambda k: k["redacted_value"], whole=True),
    _moment("created_at"),
    _moment("revoked_at"),
    Field("limits", _limits),
)
_MADE = (*FIELDS, Field("value", lambda k: k["value"], whole=True))
_REVOKED = (Field("revoked", lambda k: k["id"]),)
PROJECT_FIELDS = (Field("id", lambda p: p["id"], whole=True), Field("name", lambda p: p["name"]), _moment("created_at"))


def _limit(name: str, meaning: str) -> Any:
    return click.option("--" + name.replace("_", "-"), type=click.IntRange(min=0), default=None, help=f"{meaning}; 0 for any number.")


@click.group(epilog="Example: luthier keys create ci --role member")
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command(name="create", epilog="Example: luthier keys create ci --role member --project proj_abc123 --requests-per-minute 60")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["admin", "member", "read-only"]),
    default="member",
    show_default=True,
    help="What it may do: everything; work in its project; only look at it.",
)
@click.option("--project", "project_id", default=None, help="The project whose things it sees and makes (default: the first one).")
@_limit("requests_per_minute", "Calls of chat, completions and responses in a minute")
@_limit("tokens_per_minute", "Tokens, prompt and answer, in a minute")
@_limit("concurrent_generations", "Such calls under way at once")
@_limit("jobs_per_day", "Fine-tuning jobs in 24 hours")
@with_form
@with_place
def create_key(name: str, role: str, project_id: str | None, place: Place, form: Form, **limits: int | None) -> None:
    """Make a key called NAME. It is shown now and never again; with -q it is all that is printed."""
    own = {limit: value for limit, value in limits.items() if value is not None}
    body = {"name": name, "role": role, **({"project_id": project_id} if project_id else {}), **({"limits": own} if own else {})}
    # Never sent twice: a request whose first answer was lost would make a second key that nobody has seen.
    made = post(place.client().with_options(max_retries=0), _KEYS, body)
    if form.quiet:
        printable_output()
        click.echo(made["value"])
        return
    show_object(made, _MADE, form)
    click.echo("Keep the value: it is not shown again.", err=True)


@keys.command(name="list", epilog="Example: luthier keys list --project proj_abc123")
@click.option("--project", "project_id", default=None, help="Only this project's keys.")
@with_form
@with_place
def list_keys(project_id: str | None, place: Place, form: Form) -> None:
    """List keys, newest first, revoked ones too; the data directory's first key comes last."""
    show_page(get(place.client(), _KEYS, project_id=project_id), FIELDS, form, more="luthier keys list")


@keys.command(name="revoke", epilog="Example: luthier keys revoke key_abc123")
@click.argument("key_id")
@with_form
@with_place
def revoke_key(key_id: str, place: Place, form: Form) -> None:
    """Revoke the key KEY_ID for good. What it made stays its project's."""
    show_object(delete(place.client(), f"{_KEYS}/{quote(key_id, safe='')}"), _REVOKED, form)


@click.group(epilog="Example: luthier projects create support")
def projects() -> None:
    """Create and list projects, which do not see each other's things."""


@projects.command(name="create", epilog="Example: luthier projects create support")
@click.argument("name")
@with_form
@with_place
def create_project(name: str, place: Place, form: Form) -> None:
    """Make a project called NAME; `luthier keys create --project` then makes its keys."""
    show_object(post(place.client(), _PROJECTS, {"name": name}), PROJECT_FIELDS, form)


@projects.command(name="list", epilog="Example: luthier projects list -q")
@with_form
@with_place
def list_projects(place: Place, form: Form) -> None:
    """List projects, newest first."""
    show_page(get(place.client(), _PROJECTS), PROJECT_FIELDS, form, more="luthier projects list")
