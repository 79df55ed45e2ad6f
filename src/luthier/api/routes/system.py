"""``/luthier/system``, ``/luthier/models``, ``/luthier/demo``: how the server is, its models with what hangs on them, a first job."""

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from luthier import __version__
from luthier.api.deps import Calling, Injected, Services
from luthier.api.file_rules import new_file
from luthier.api.machine_facts import DiskWatch, graphics_cards, memory, processor, resident_bytes
from luthier.api.mapping import JobParts, new_job
from luthier.api.model_names import find_trainable
from luthier.api.replies import JsonReply, listing
from luthier.api.routes.fine_tuning import shown_job
from luthier.api.routes.health import ROLES
from luthier.api.schemas.fine_tuning import JobCreateRequest
from luthier.core.engine_messages import HostStatus, Status
from luthier.core.errors import LuthierError
from luthier.core.ids import new_job_id
from luthier.core.jobs import FileRecord, ModelKind, ModelRecord
from luthier.storage.database import SQLITE_VERSION

router = APIRouter(prefix="/luthier")
DEMO = Path(__file__).resolve().parents[1] / "demo"
_DEMO_REQUEST: dict[str, Any] = {
    "model": "gpt-4o-mini-2024-07-18",
    "suffix": "translate",
    "seed": 20261122,
    "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 5}}},
}
_STATUS_SECONDS = 2.0
_LIBRARIES = ("torch", "transformers", "tokenizers", "fastapi", "openai")


@router.get("/system")
async def system(request: Request, services: Injected) -> Response:
    """Devices, memory, disk, queue, workers, engine and versions; what cannot be read is null."""
    try:
        status = await services.engine.request(Status(), timeout_seconds=_STATUS_SECONDS)
    except LuthierError:
        status = None
    watch = _watch(request)
    return JsonReply(await run_in_threadpool(_system, services, status if isinstance(status, HostStatus) else None, watch))


def _watch(request: Request) -> DiskWatch:
    return request.app.state.disk_watch


def _system(services: Services, engine: HostStatus | None, watch: DiskWatch) -> dict[str, Any]:
    now = services.clock()
    beats = {role: services.workers.latest(role) for role in ROLES}
    return {
        "object": "luthier.system",
        "devices": [processor(), *graphics_cards()],
        "memory": {**memory(), "api_bytes": resident_bytes(), "engine_bytes": None if engine is None else engine.resident_bytes},
        "disk": watch.look(),
        "queue": {"jobs": services.overview.counts(), "waiting": len(services.overview.places(now))},
        "workers": [
            {
                "role": role,
                "seconds_since_beat": None if beat is None else max(0.0, now - beat),
                "alive": beat is not None and now - beat <= most,
            }
            for (role, most), beat in zip(ROLES.items(), beats.values(), strict=True)
        ],
        "engine": None
        if engine is None
        else {
            "loaded": list(engine.loaded),
            "active": engine.active,
            "threads": engine.num_threads,
            "uptime_seconds": engine.uptime_seconds,
        },
        "keys": sum(key.revoked_at is None for key in services.keys.list()) + 1,
        "webhooks": len(services.webhooks.list(limit=100).items),
        "versions": {"luthier": __version__, "python": platform.python_version(), "sqlite": SQLITE_VERSION, **_libraries()},
    }


def _libraries() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _LIBRARIES if _is_there(name)}


def _is_there(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@router.get("/models")
def list_model_rows(services: Injected) -> Response:
    """All models that the caller sees, newest first, each with its aliases, its checkpoints and what hangs on it."""
    records = services.models.list()
    targets = {**services.settings.aliases, **{alias.name: alias.target for alias in services.aliases.list()}}
    rows = [_model_row(services, record, records, targets) for record in reversed(records)]
    return JsonReply(listing(rows))


def _model_row(services: Services, record: ModelRecord, records: tuple[ModelRecord, ...], targets: dict[str, str]) -> dict[str, Any]:
    aliases = sorted(name for name, target in targets.items() if target == record.name)
    checkpoints = [
        r.name for r in records if record.step is None and record.job_id is not None and r.job_id == record.job_id and r.step is not None
    ]
    return {
        "object": "luthier.model",
        "id": record.name,
        "kind": record.kind.value,
        "base": record.base,
        "created_at": record.created_at,
        "owned_by": record.owned_by,
        "job_id": record.job_id,
        "step": record.step,
        "bytes": _bytes(services, record),
        "licence": record.licence,
        "runs_on": None if record.runs_on is None else record.runs_on.value,
        "source": record.source,
        "aliases": aliases,
        "checkpoints": checkpoints,
        "deletable": record.kind is not ModelKind.BASE and not aliases,
        "dependents": {"aliases": aliases, "jobs": services.overview.unfinished_of(record.name)},
    }


def _bytes(services: Services, record: ModelRecord) -> int | None:
    """Of a base as it was read, of a tuned model its folder's files; null where they are gone."""
    if record.num_bytes is not None:
        return record.num_bytes
    folder = services.settings.resolve_model_path(record.path)
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) if folder.is_dir() else None


@router.post("/demo")
def create_demo(services: Injected, caller: Calling) -> Response:
    """Upload the demo's phrases, English to French, and start its job; the answer is the job."""
    body = JobCreateRequest.model_validate({**_DEMO_REQUEST, "training_file": "file-demo"})
    parts = JobParts(
        id=new_job_id(),
        created_at=int(services.clock()),
        seed=_DEMO_REQUEST["seed"],
        trainable=find_trainable(services.models, services.settings, body.model),
        training=_demo_file(services, "train.jsonl"),
        validation=_demo_file(services, "valid.jsonl"),
    )
    job = services.queue.submit(new_job(body, parts), daily_limit=caller.limits.jobs_per_day)
    return JsonReply(shown_job(services, job))


def _demo_file(services: Services, name: str) -> FileRecord:
    sha256, size = services.blobs.put((DEMO / name).read_bytes())
    filename = f"demo-{name}"
    record = new_file(filename, "fine-tune", None, sha256=sha256, num_bytes=size, now=int(services.clock()))
    services.files.add(record)
    return record
