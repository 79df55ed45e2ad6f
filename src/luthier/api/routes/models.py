"""``/models``: list, retrieve, delete (reference, section 4.1)."""

import contextlib

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.deps import Injected, Services
from luthier.api.mapping import is_deletable, model_object
from luthier.api.model_names import find_record, unknown_model
from luthier.api.replies import JsonReply
from luthier.core.engine_messages import Unload
from luthier.core.errors import PermissionRefused, Unavailable

router = APIRouter(prefix="/models")
_UNLOAD_SECONDS = 5.0


@router.get("")
def list_models(services: Injected) -> Response:
    """All served models: bases, tuned models, checkpoints."""
    return JsonReply({"object": "list", "data": [model_object(record) for record in services.models.list()]})


# Names may hold slashes and colons, so the path's whole rest is the name.
@router.get("/{name:path}")
def retrieve_model(name: str, services: Injected) -> Response:
    """One model. An OpenAI base name shows the open model that stands for it."""
    return JsonReply(model_object(find_record(services.models, services.settings, name), name=name))


def _delete(services: Services, name: str) -> str:
    record = find_record(services.models, services.settings, name)
    if not is_deletable(record):
        raise PermissionRefused("Base models cannot be deleted.", code="model_not_deletable", param="model")
    if not services.models.delete(record.name):
        raise unknown_model(name)
    return record.name


@router.delete("/{name:path}")
async def delete_model(name: str, services: Injected) -> Response:
    """Delete a tuned model or a checkpoint; the engine forgets it."""
    deleted = await run_in_threadpool(_delete, services, name)
    # An engine that is gone has forgotten it anyway.
    with contextlib.suppress(Unavailable):
        await services.engine.request(Unload(name=deleted), timeout_seconds=_UNLOAD_SECONDS)
    return JsonReply({"id": deleted, "object": "model", "deleted": True})
