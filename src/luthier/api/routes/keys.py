"""``/luthier/keys`` and ``/luthier/projects``: who may use this server, and as what; our own, for admins.

OpenAI's calls for this do not fit: its client can list and delete the keys of a project but not create one, and knows no roles
of keys.
"""

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from luthier.api.bodies import json_body
from luthier.api.deps import Calling, Services, WholeServer
from luthier.api.replies import JsonReply, listing
from luthier.api.schemas.keys import KeyCreateRequest, KeyUpdateRequest, ProjectCreateRequest
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_api_key, new_api_key_id, new_project_id
from luthier.core.keys import DEFAULT_PROJECT, ApiKey, OwnLimits, Project, Role, first_key_id, key_sha256, masked

router = APIRouter(prefix="/luthier")
_FIRST_KEY = "first key (the file api_key)"


def _key_object(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "object": "luthier.api_key",
        "name": key.name,
        "role": key.role.value,
        "project_id": key.project_id,
        "redacted_value": key.redacted,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "revoked_at": key.revoked_at,
        "limits": dataclasses.asdict(key.limits),
    }


def _first_key_object(services: Services) -> dict[str, Any]:
    return {
        "id": first_key_id(services.api_key),
        "object": "luthier.api_key",
        "name": _FIRST_KEY,
        "role": Role.ADMIN.value,
        "project_id": DEFAULT_PROJECT,
        "redacted_value": masked(services.api_key),
        "created_at": None,
        "created_by": None,
        "revoked_at": None,
        "limits": dataclasses.asdict(OwnLimits()),
    }


def _project_object(project: Project) -> dict[str, Any]:
    return {"id": project.id, "object": "luthier.project", "name": project.name, "created_at": project.created_at}


def _found(services: Services, key: ApiKey | None, key_id: str) -> ApiKey:
    if key is not None:
        return key
    if key_id == first_key_id(services.api_key):
        message = "The first key stands in the file api_key of the data directory, and only there it can be changed."
        raise InvalidRequest(message, code="first_key", param="key_id")
    raise NotFound(f"No such API key: {key_id}", param="key_id")


@router.post("/keys")
def create_key(body: Annotated[KeyCreateRequest, Depends(json_body(KeyCreateRequest))], services: WholeServer, caller: Calling) -> Response:
    """Make an API key; the answer shows it in ``value``, now and never again."""
    value = new_api_key()
    key = ApiKey(
        id=new_api_key_id(),
        name=body.name,
        role=Role(body.role),
        project_id=body.project_id,
        sha256=key_sha256(value),
        redacted=masked(value),
        created_at=int(services.clock()),
        created_by=caller.key_id,
        limits=OwnLimits(**body.limits.model_dump()),
    )
    services.keys.add(key)
    return JsonReply({**_key_object(key), "value": value})


@router.get("/keys")
def list_keys(services: WholeServer, project_id: Annotated[str | None, Query(max_length=128)] = None) -> Response:
    """Every API key, newest first, revoked ones too; the first key of the data directory comes last."""
    shown = [_key_object(key) for key in services.keys.list(project_id=project_id)]
    if project_id in (None, DEFAULT_PROJECT):
        shown.append(_first_key_object(services))
    return JsonReply(listing(shown))


@router.get("/keys/{key_id}")
def retrieve_key(key_id: str, services: WholeServer) -> Response:
    """One API key, without the key itself."""
    key = services.keys.get(key_id)
    if key is None and key_id == first_key_id(services.api_key):
        return JsonReply(_first_key_object(services))
    return JsonReply(_key_object(_found(services, key, key_id)))


@router.post("/keys/{key_id}")
def update_key(key_id: str, body: Annotated[KeyUpdateRequest, Depends(json_body(KeyUpdateRequest))], services: WholeServer) -> Response:
    """Change an API key's name or its own limits; role and project are for good."""
    changed = services.keys.change(key_id, name=body.name, limits=body.limits.model_dump(exclude_unset=True))
    return JsonReply(_key_object(_found(services, changed, key_id)))


@router.delete("/keys/{key_id}")
def revoke_key(key_id: str, services: WholeServer) -> Response:
    """Revoke an API key: from the next request on it is a wrong one. What it made stays its project's."""
    if not services.keys.revoke(key_id, int(services.clock())):
        _found(services, None, key_id)
    return JsonReply({"id": key_id, "object": "luthier.api_key", "deleted": True})


@router.post("/projects")
def create_project(body: Annotated[ProjectCreateRequest, Depends(json_body(ProjectCreateRequest))], services: WholeServer) -> Response:
    """Make a project; what its keys make is not seen by other projects' keys."""
    project = Project(id=new_project_id(), name=body.name, created_at=int(services.clock()))
    services.keys.add_project(project)
    return JsonReply(_project_object(project))


@router.get("/projects")
def list_projects(services: WholeServer) -> Response:
    """Every project, newest first; the default one comes last."""
    return JsonReply(listing([_project_object(project) for project in services.keys.projects()]))


@router.get("/projects/{project_id}")
def retrieve_project(project_id: str, services: WholeServer) -> Response:
    """One project."""
    project = services.keys.project(project_id)
    if project is None:
        raise NotFound(f"No such project: {project_id}", param="project_id")
    return JsonReply(_project_object(project))
