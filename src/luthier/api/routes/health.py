"""``/healthz`` and ``/readyz``: is the process up, and can the whole server do its work. No key needed, nothing told."""

from collections.abc import Mapping
from pathlib import PurePath

from fastapi import APIRouter, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.dataset_tasks import DATA_LANES, MAX_BEAT_AGE_SECONDS
from luthier.api.deps import Services, WholeServer
from luthier.api.replies import JsonReply
from luthier.core.engine_messages import HostStatus, Status
from luthier.core.errors import LuthierError
from luthier.core.jobs import ModelRecord

router = APIRouter()
ROLES: Mapping[str, float] = {"validate": 10.0, "train": 10.0, **dict.fromkeys(DATA_LANES, MAX_BEAT_AGE_SECONDS)}
"""The worker's lanes, and for how many seconds one may say nothing."""
_STATUS_SECONDS = 2.0


@router.get("/healthz")
async def healthz() -> Response:
    """The process answers."""
    return JsonReply({"status": "ok"})


def _office_reasons(services: Services) -> tuple[dict[str, str], ModelRecord | None]:
    """What is wrong with storage and worker, and the default base's record."""
    reasons: dict[str, str] = {}
    base = services.models.get(services.settings.default_base)
    if base is None:
        reasons["model"] = "The default base model is not registered."
    for role, seconds in ROLES.items():
        beat = services.workers.latest(role)
        if beat is None or abs(services.clock() - beat) > seconds:
            reasons[f"worker.{role}"] = f"The worker's lane '{role}' gave no sign of life in the last {seconds:g} seconds."
    return reasons, base


async def _engine_reasons(services: Services, base: ModelRecord) -> dict[str, str]:
    try:
        status = await services.engine.request(Status(), timeout_seconds=_STATUS_SECONDS)
    except LuthierError as error:
        return {"engine": error.message}
    # At its start the host loads a folder, not a name: until a caller named the model, it knows the folder's name.
    names = {base.name, PurePath(services.settings.resolve_model_path(base.path)).name}
    if isinstance(status, HostStatus) and names.isdisjoint(status.loaded):
        return {"engine": f"The default base model '{base.name}' is not loaded yet."}
    return {}


@router.get("/readyz")
async def readyz(services: WholeServer) -> Response:
    """200 when jobs and dataset tasks are taken and chats are answered; else 503 with the reasons."""
    try:
        reasons, base = await run_in_threadpool(_office_reasons, services)
    except LuthierError as error:
        reasons, base = {"storage": error.message}, None
    if base is not None:
        reasons |= await _engine_reasons(services, base)
    if reasons:
        return JsonReply({"status": "not_ready", "reasons": reasons}, status_code=503, headers={"retry-after": "1"})
    return JsonReply({"status": "ready"})
