"""Which role each route needs: the one table, by the beginning of the path.

What it does: says what a request needs, and refuses a key that may not do it in OpenAI's words. What it does not: find out whose
the key is (``auth.py``), or whose a thing is (the stores, narrowed to the caller's project). Called by ``auth.py`` for every route.
A path that is not in the table needs an admin's key, and a test fails until it is put in.
"""

from dataclasses import dataclass

from luthier.core.errors import PermissionRefused
from luthier.core.keys import Caller, Role


@dataclass(frozen=True, slots=True)
class Needs:
    """What routes under one path need: a role to read (GET), a role for everything else."""

    scope: str
    """The name by which a refusal calls it."""
    read: Role = Role.READ_ONLY
    write: Role = Role.MEMBER


_WORK: dict[str, str] = {
    "/v1/files": "api.files",
    "/v1/uploads": "api.uploads",
    "/v1/fine_tuning/jobs": "api.fine_tuning.jobs",
    "/v1/models": "api.model",
    "/v1/chat/completions": "api.chat.completions",
    "/v1/completions": "api.completions",
    "/v1/responses": "api.responses",
    "/v1/batches": "api.batches",
    "/v1/luthier/jobs": "api.luthier.jobs",
    "/v1/luthier/files": "api.luthier.files",
    "/v1/luthier/datasets": "api.luthier.datasets",
    "/v1/luthier/render": "api.luthier.render",
    "/v1/luthier/stream": "api.luthier.jobs",
    "/v1/luthier/models": "api.model",
    "/v1/luthier/system": "api.luthier.system",
    "/v1/luthier/demo": "api.luthier.jobs",
    "/v1/luthier/trace": "api.luthier.trace",
    "/v1/luthier/openapi.json": "api.luthier.openapi",
    "/v1/webhook_event_types": "api.webhooks",
}
"""Work inside a project: whoever may read reads it, members do it."""

_ADMINISTRATION: dict[str, str] = {
    "/v1/fine_tuning/checkpoints": "api.fine_tuning.checkpoints.permissions",
    "/v1/webhook_endpoints": "api.webhooks",
    "/v1/luthier/aliases": "api.luthier.aliases",
    "/v1/luthier/keys": "api.luthier.keys",
    "/v1/luthier/projects": "api.luthier.projects",
}
"""Affairs of the whole server, over all projects: admins only, reading included."""

TABLE: dict[str, Needs] = {
    **{path: Needs(scope) for path, scope in _WORK.items()},
    **{path: Needs(scope, read=Role.ADMIN, write=Role.ADMIN) for path, scope in _ADMINISTRATION.items()},
}
_UNKNOWN = Needs("api.management", read=Role.ADMIN, write=Role.ADMIN)


def needs_of(path: str) -> Needs:
    """The table's entry for a path: the longest beginning that fits in whole parts."""
    fitting = [begin for begin in TABLE if path == begin or path.startswith(begin + "/")]
    return TABLE[max(fitting, key=len)] if fitting else _UNKNOWN


def check_role(caller: Caller, method: str, path: str) -> None:
    """Refuse what the caller's role does not include.

    Raises:
        PermissionRefused: OpenAI's words for a key without the scope.
    """
    needs = needs_of(path)
    reading = method in ("GET", "HEAD")
    needed = needs.read if reading else needs.write
    if caller.role.includes(needed):
        return
    raise PermissionRefused(
        f"You have insufficient permissions for this operation. Missing scopes: {needs.scope}.{'read' if reading else 'write'}. "
        f"Your API key has the role '{caller.role}'; this needs the role '{needed}'.",
        code="missing_scope",
    )
