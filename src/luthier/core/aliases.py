"""Aliases: names that stand for a served model, and the rules about them (reference, decision D8).

What it does: the records, the shape of a name, which target a rollback leads to, the check of an operator's own table.
What it does not: look models up or store anything. Called by ``core/settings.py``, ``storage``, ``api`` and ``worker``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from luthier.core.errors import InvalidRequest

MAX_NAME_CHARACTERS = 256
_PART = r"[A-Za-z0-9][A-Za-z0-9._:@+-]*"
_NAME = re.compile(rf"{_PART}(/{_PART})*")
# A path that ends so is the rollback of the alias before it.
_RESERVED_END = "/rollback"


class AliasAction(StrEnum):
    """What a change did to an alias."""

    CREATED = "created"
    MOVED = "moved"
    ROLLED_BACK = "rolled_back"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasChange:
    """One row of the history of aliases."""

    name: str
    action: AliasAction
    from_target: str | None
    """What the alias stood for before; None where there was no alias."""
    to_target: str | None
    """What it stands for since; None where it was deleted."""
    changed_at: int
    changed_by: str
    """Whose key it was, as ``api.auth.key_id`` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """An alias as it stands now."""

    name: str
    target: str
    created_at: int
    changed_at: int
    changed_by: str


def check_alias_name(name: str, param: str | None = "name") -> None:
    """Accept what looks like a model's name: ``gpt-4o-mini-2024-07-18``, ``support@prod``, ``ft:...``.

    Raises:
        InvalidRequest: it does not, or is too long.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        message = f"Invalid 'name': string too long. Expected at most {MAX_NAME_CHARACTERS} characters, but got {len(name)} instead."
        raise InvalidRequest(message, code="string_above_max_length", param=param)
    if not _NAME.fullmatch(name) or name.endswith(_RESERVED_END):
        message = (
            f"{name!r} is not a name for an alias: letters, digits and . _ : @ + - in parts between slashes, each beginning with "
            f"a letter or digit, and not ending in '{_RESERVED_END}'."
        )
        raise InvalidRequest(message, code="invalid_value", param=param)


def check_alias_table(aliases: Mapping[str, str]) -> None:
    """Check the operator's own table; whether its targets exist shows when they are asked for.

    Raises:
        InvalidRequest: a name is none, or an alias stands for another alias.
    """
    for name, target in aliases.items():
        check_alias_name(name)
        if target in aliases:
            message = (
                f"The alias {name!r} stands for {target!r}, which is an alias too. Let it stand for a model, here {aliases[target]!r}."
            )
            raise InvalidRequest(message)


def earlier_target(changes: Iterable[AliasChange]) -> str | None:
    """Where a rollback leads.

    Moves pile up and each rollback takes one off, so that two rollbacks in a row go back two moves; a deletion starts anew.

    Args:
        changes: one alias's history, oldest first.

    Returns:
        The target before the last move that was not rolled back; None when there is none.
    """
    pile: list[str] = []
    for change in changes:
        if change.to_target is None:
            pile = []
        elif change.action is AliasAction.ROLLED_BACK:
            pile.pop()
        else:
            # A change of the operator's default begins with that default, which no row of ours put there.
            pile = [*(pile or filter(None, [change.from_target])), change.to_target]
    return pile[-2] if len(pile) > 1 else None
