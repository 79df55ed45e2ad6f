"""``luthier aliases``: other names for served models; the same commands stand in ``luthier models`` under names of their own.

What it does: speaks to ``/v1/luthier/aliases`` and prints what came of it. What it does not: decide anything. Loaded by
``cli/main.py``; ``cli/models.py`` takes ``MODEL_COMMANDS`` into its group.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from luthier.cli.client import delete, get, post
from luthier.cli.options import Form, Place, with_form, with_place
from luthier.cli.output import Field, show_object, show_page, show_rows
from luthier.cli.printing import printable_output
from luthier.cli.render.text import plain, when

if TYPE_CHECKING:
    import openai

_PATH = "/luthier/aliases"
_MODEL = "ft:gpt-4o-mini-2024-07-18:acme:support:dS6Na5ML"

COLUMNS = (
    Field("alias", lambda a: a["id"]),
    Field("stands for", lambda a: a["target"]),
    Field("set in", lambda a: a["set_in"], whole=True),
    Field("since", lambda a: when(a["changed_at"]) if a.get("changed_at") else "", whole=True),
)
LINES = (*COLUMNS, Field("default", lambda a: a.get("default_target") or ""))
_CHANGES = (
    Field("when", lambda c: when(c["changed_at"]), whole=True),
    Field("what", lambda c: c["action"].replace("_", " "), whole=True),
    Field("from", lambda c: c["from"] or ""),
    Field("to", lambda c: c["to"] or ""),
    Field("key", lambda c: c["changed_by"]),
)
_DELETED = (Field("deleted", lambda a: a["id"]),)


def _path_of(name: str) -> str:
    return f"{_PATH}/{quote(name, safe='')}"


def _set(name: str, target: str, place: Place, form: Form) -> None:
    """Let NAME stand for the model TARGET; a NAME that exists is moved."""
    _tell(_put(place.client(), name, target), form)


def _put(client: "openai.OpenAI", name: str, target: str) -> dict[str, Any]:
    import openai

    try:
        return post(client, _path_of(name), {"target": target})
    except openai.NotFoundError as error:
        if error.code != "alias_not_found":
            raise
        return post(client, _PATH, {"name": name, "target": target})


def _tell(shown: dict[str, Any], form: Form) -> None:
    if form.as_json or form.quiet:
        show_object(shown, LINES, form)
        return
    printable_output()
    click.echo(f"{plain(shown['id'])} -> {plain(shown['target'])}")


def _list(place: Place, form: Form) -> None:
    """List the aliases, newest first."""
    show_page(get(place.client(), _PATH), COLUMNS, form, more="luthier aliases list")


def _get(name: str, place: Place, form: Form) -> None:
    """Show what NAME stands for, and every change of it."""
    shown = get(place.client(), _path_of(name))
    show_object(shown, LINES, form)
    show_rows(shown["history"], _CHANGES, form)


def _list_or_get(name: str | None, place: Place, form: Form) -> None:
    """List the aliases, or show NAME with every change of it."""
    if name is None:
        _list(place, form)
    else:
        _get(name, place, form)


def _roll_back(name: str, place: Place, form: Form) -> None:
    """Let NAME stand again for what it stood for before its last move; twice goes back two moves."""
    # Never sent twice: a repeated request whose first answer was lost would go back one move too far.
    client = place.client().with_options(max_retries=0)
    _tell(post(client, f"{_path_of(name)}/rollback"), form)


def _delete(name: str, place: Place, form: Form) -> None:
    """Delete the alias NAME; the model that it stands for stays."""
    show_object(delete(place.client(), _path_of(name)), _DELETED, form)


def _command(work: Callable[..., None], name: str, example: str, *arguments: str, required: bool = True) -> click.Command:
    made = with_form(with_place(work))
    for argument in reversed(arguments):
        made = click.argument(argument, required=required)(made)
    return click.command(name=name, epilog=f"Example: luthier {example}")(made)


@click.group(epilog="Example: luthier aliases list")
def aliases() -> None:
    """Give served models other names, move them, and go back."""


for _made in (
    _command(_list, "list", "aliases list"),
    _command(_get, "get", "aliases get support@prod", "name"),
    _command(_set, "set", f"aliases set support@prod {_MODEL}", "name", "target"),
    _command(_roll_back, "rollback", "aliases rollback support@prod", "name"),
    _command(_delete, "delete", "aliases delete support@prod", "name"),
):
    aliases.add_command(_made)

MODEL_COMMANDS = (
    _command(_set, "alias", f"models alias support@prod {_MODEL}", "name", "target"),
    _command(_list_or_get, "aliases", "models aliases support@prod", "name", required=False),
    _command(_roll_back, "rollback", "models rollback support@prod", "name"),
    _command(_delete, "unalias", "models unalias support@prod", "name"),
)
"""The same commands in ``luthier models``."""
