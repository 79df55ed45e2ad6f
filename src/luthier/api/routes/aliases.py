"""``/luthier/aliases``: names that stand for a served model; our own (reference, decision D8).

What it does: create, list, show with history, move, roll back, delete. What it does not: resolve the names in requests
(``api/model_names.py``).
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Calling, Services, WholeServer
from luthier.api.model_names import stands_for
from luthier.api.model_objects import alias_object, default_alias_object, with_history
from luthier.api.replies import JsonReply, listing
from luthier.api.schemas.luthier import AliasCreateRequest, AliasMoveRequest
from luthier.core.aliases import Alias, check_alias_name
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.settings import OPENAI_BASE_NAMES

router = APIRouter(prefix="/luthier/aliases")


def _shown(services: Services, name: str, alias: Alias | None) -> dict[str, Any]:
    if alias is not None:
        return alias_object(alias, services.settings)
    if name in services.settings.aliases:
        return default_alias_object(name, services.settings)
    raise NotFound(f"No such alias: {name}", code="alias_not_found", param="name")


def _with_history(services: Services, name: str, alias: Alias | None) -> Response:
    return JsonReply(with_history(_shown(services, name, alias), services.aliases.history(name)))


def _check_target(services: Services, target: str) -> None:
    """An OpenAI name that stands for the default base is no model either; the store knows only names that were made."""
    if target in OPENAI_BASE_NAMES and services.models.get(target) is None:
        behind = stands_for(services.models, services.settings, target)
        message = f"An alias cannot stand for another alias. `{target}` is one; name the model itself, `{behind}`."
        raise InvalidRequest(message, code="alias_of_alias", param="target")


@router.get("")
def list_aliases(services: WholeServer) -> Response:
    """Every alias, newest first; those that stand only in the server's settings come last."""
    ours = services.aliases.list()
    names = {alias.name for alias in ours}
    shown = [alias_object(alias, services.settings) for alias in ours]
    shown += [default_alias_object(name, services.settings) for name in services.settings.aliases if name not in names]
    return JsonReply(listing(shown))


@router.post("")
def create_alias(
    body: Annotated[AliasCreateRequest, Depends(json_body(AliasCreateRequest))], services: WholeServer, caller: Calling
) -> Response:
    """Make an alias, or override the one of that name in the server's settings."""
    check_alias_name(body.name)
    _check_target(services, body.target)
    alias = services.aliases.create(body.name, body.target, by=caller.key_id)
    return _with_history(services, body.name, alias)


# Names may hold slashes and colons, so the path's whole rest is the name. The rollback comes first: its path would fit both.
@router.post("/{name:path}/rollback")
def roll_back_alias(name: str, services: WholeServer, caller: Calling) -> Response:
    """Let an alias stand again for what it stood for before its last move; twice goes back two moves."""
    alias = services.aliases.rollback(name, by=caller.key_id)
    return _with_history(services, name, alias)


@router.post("/{name:path}")
def move_alias(
    name: str, body: Annotated[AliasMoveRequest, Depends(json_body(AliasMoveRequest))], services: WholeServer, caller: Calling
) -> Response:
    """Let an alias stand for another model."""
    _check_target(services, body.target)
    alias = services.aliases.move(name, body.target, by=caller.key_id)
    return _with_history(services, name, alias)


@router.get("/{name:path}")
def retrieve_alias(name: str, services: WholeServer) -> Response:
    """One alias with every change of it, newest first."""
    return _with_history(services, name, services.aliases.get(name))


@router.delete("/{name:path}")
def delete_alias(name: str, services: WholeServer, caller: Calling) -> Response:
    """Delete an alias; the model that it stands for stays, and its history is kept."""
    services.aliases.delete(name, by=caller.key_id)
    return JsonReply({"id": name, "object": "luthier.alias", "deleted": True})
