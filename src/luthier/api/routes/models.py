"""``/models``: list, retrieve, delete (reference, section 4.1)."""

import contextlib
from typing import Any

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.deps import Injected, Services
from luthier.api.model_names import alias_target, find_record, unknown_model
from luthier.api.model_objects import alias_model_object, model_object
from luthier.api.replies import JsonReply
from luthier.core.engine_messages import Unload
from luthier.core.errors import InvalidRequest, PermissionRefused, Unavailable
from luthier.core.jobs import ModelKind
from luthier.core.settings import OPENAI_BASE_NAMES

router = APIRouter(prefix="/models")
_UNLOAD_SECONDS = 5.0


def _listed(services: Services) -> list[dict[str, Any]]:
    """Every model's and alias's object; an alias whose target is gone answers nobody and is left out."""
    settings = services.settings
    records = {record.name: record for record in services.models.list()}
    aliases = {alias.name: alias for alias in services.aliases.list()}
    targets = {**settings.aliases, **{name: alias.target for name, alias in aliases.items()}}
    shown = [model_object(record, records.get(record.base), settings) for record in reversed(records.values())]
    for name, target in targets.items():
        record = records.get(target)
        if record is not None and name not in records:
            created = aliases[name].created_at if name in aliases else None
            shown.append(alias_model_object(name, record, records.get(record.base), settings, created=created))
    # The sort is stable: of two models made in one second the one registered later comes first.
    return sorted(shown, key=lambda model: model["created"], reverse=True)


@router.get("")
def list_models(services: Injected) -> Response:
    """All served models, newest first: bases, tuned models, checkpoints, aliases."""
    return JsonReply({"object": "list", "data": _listed(services)})


# Names may hold slashes and colons, so the path's whole rest is the name.
@router.get("/{name:path}")
def retrieve_model(name: str, services: Injected) -> Response:
    """One model. An alias or an OpenAI base name shows the model that it stands for."""
    record = find_record(services.models, services.settings, name)
    base = services.models.get(record.base)
    if record.name == name:
        return JsonReply(model_object(record, base, services.settings))
    alias = services.aliases.get(name)
    created = alias.created_at if alias is not None else None
    return JsonReply(alias_model_object(name, record, base, services.settings, created=created))


def _delete(services: Services, name: str) -> str:
    record = services.models.get(name)
    target = None if record is not None else alias_target(services.models, services.settings, name)
    # An alias of what the caller does not see answers it nowhere, and so not here.
    if target is not None and services.models.get(target) is not None:
        message = f"`{name}` is an alias of `{target}`. (HINT: DELETE /v1/luthier/aliases/{name} removes the alias.)"
        raise InvalidRequest(message, code="model_is_alias", param="model")
    if name in OPENAI_BASE_NAMES or (record is not None and record.kind is ModelKind.BASE):
        raise PermissionRefused("Base models cannot be deleted.", code="model_not_deletable", param="model")
    if not services.models.delete(name, services.settings.aliases):
        raise unknown_model(name)
    return name


@router.delete("/{name:path}")
async def delete_model(name: str, services: Injected) -> Response:
    """Delete a tuned model or a checkpoint that no alias stands for; the engine forgets it."""
    deleted = await run_in_threadpool(_delete, services, name)
    # An engine that is gone has forgotten it anyway.
    with contextlib.suppress(Unavailable):
        await services.engine.request(Unload(name=deleted), timeout_seconds=_UNLOAD_SECONDS)
    return JsonReply({"id": deleted, "object": "model", "deleted": True})
