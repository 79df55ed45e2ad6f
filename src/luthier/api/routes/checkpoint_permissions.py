"""``/fine_tuning/checkpoints/{name}/permissions``: grant, list, take away (reference, section 2.10).

An admin's affair, over all projects. A project that has permission for a model sees it and may ask it; it may not delete it or
train on it.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Services, WholeServer
from luthier.api.mapping import permission_object
from luthier.api.replies import JsonReply, listing
from luthier.api.schemas.fine_tuning import PermissionCreateRequest
from luthier.core.errors import NotFound
from luthier.core.ids import new_permission_id
from luthier.core.jobs import CheckpointPermission, ModelKind

router = APIRouter(prefix="/fine_tuning/checkpoints")


def _model_name(services: Services, name: str) -> str:
    """The tuned model or checkpoint that a path names, by its ``ft:`` name or by its checkpoint id.

    Raises:
        NotFound: there is none, or it is a base model.
    """
    checkpoint = services.jobs.checkpoint(name)
    record = services.models.get(name if checkpoint is None else checkpoint.model_name)
    if record is None or record.kind is ModelKind.BASE:
        raise NotFound(f"Could not find fine-tuned model checkpoint: {name}", param="fine_tuned_model_checkpoint")
    return record.name


# Names may hold slashes and colons, so all that stands before "/permissions" is the name.
@router.post("/{name:path}/permissions")
def grant_permissions(
    name: str, body: Annotated[PermissionCreateRequest, Depends(json_body(PermissionCreateRequest))], services: WholeServer
) -> Response:
    """Let projects use a tuned model or a checkpoint."""
    model_name, now = _model_name(services, name), int(services.clock())
    wanted = [
        CheckpointPermission(id=new_permission_id(), model_name=model_name, project_id=project_id, created_at=now)
        for project_id in dict.fromkeys(body.project_ids)
    ]
    granted = services.permissions.grant(wanted)
    return JsonReply(listing([permission_object(permission) for permission in granted], cursors=True))


@router.get("/{name:path}/permissions")
def list_permissions(
    name: str,
    services: WholeServer,
    project_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    order: Literal["ascending", "descending"] = "descending",
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """A page of the projects that may use a tuned model or a checkpoint."""
    model_name = _model_name(services, name)
    page = services.permissions.list(model_name, project_id=project_id, limit=limit, order=order, after=after)
    return JsonReply(listing([permission_object(p) for p in page.items], has_more=page.has_more, cursors=True))


@router.delete("/{name:path}/permissions/{permission_id}")
def delete_permission(name: str, permission_id: str, services: WholeServer) -> Response:
    """Take a project's permission away."""
    if not services.permissions.delete(_model_name(services, name), permission_id):
        raise NotFound(f"Could not find checkpoint permission: {permission_id}", param="permission_id")
    return JsonReply({"id": permission_id, "object": "checkpoint.permission", "deleted": True})
