"""What routes work with: the services, built once at start and handed down.

What it does: names the services, builds them from the settings, and gives routes their dependencies: the services narrowed to the
caller's project, the caller, a turn to generate. What it does not: read bodies (``bodies.py``) or check keys (``auth.py``).
``cli/serve.py`` calls ``build_services``; tests build their own.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from fastapi import Depends, Request

from luthier.api.engine_client import EngineClient
from luthier.api.rate_limits import BadKeys, RateLimits, Turn
from luthier.api.sessions import SessionSigner, read_secret
from luthier.api.webhooks.sender import WebhookSender
from luthier.core.errors import InvalidRequest
from luthier.core.keys import Caller
from luthier.core.settings import Settings
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.aliases import AliasStore
from luthier.storage.batches import BatchStore
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.dataset_tasks import DatasetTaskStore
from luthier.storage.files import FileStore
from luthier.storage.job_overview import JobOverview
from luthier.storage.jobs import JobStore
from luthier.storage.keys import KeyStore
from luthier.storage.models import ModelStore
from luthier.storage.ownership import Owned
from luthier.storage.parts import PartFiles
from luthier.storage.permissions import PermissionStore
from luthier.storage.responses import ResponseStore
from luthier.storage.sessions import SessionStore
from luthier.storage.stored_completions import StoredCompletionStore
from luthier.storage.uploads import UploadStore
from luthier.storage.webhooks import WebhookStore
from luthier.storage.workers import WorkerStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything a route may need."""

    settings: Settings
    database: Database
    blobs: BlobStore
    files: FileStore
    uploads: UploadStore
    parts: PartFiles
    jobs: JobStore
    overview: JobOverview
    queue: JobQueue
    control: JobControl
    models: ModelStore
    aliases: AliasStore
    permissions: PermissionStore
    responses: ResponseStore
    workers: WorkerStore
    stored_completions: StoredCompletionStore
    batches: BatchStore
    dataset_tasks: DatasetTaskStore
    webhooks: WebhookStore
    webhook_sender: WebhookSender
    engine: EngineClient
    keys: KeyStore
    sessions: SessionStore
    signer: SessionSigner
    rates: RateLimits
    bad_keys: BadKeys
    api_key: str
    """The first key, which stands in the data directory's file."""
    clock: Callable[[], float] = time.time

    def in_project(self, project_id: str) -> "Services":
        """The same services, of which every store, the queue and the control see one project only."""
        narrowed: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Owned | JobQueue | JobControl):
                narrowed[f.name] = value.in_project(project_id)
        return replace(self, **narrowed)


def build_services(settings: Settings, environ: Mapping[str, str] | None = None) -> Services:
    """The services of one API process over an existing, migrated data directory.

    Raises:
        InvalidRequest: the data directory holds no API key.
    """
    environ = os.environ if environ is None else environ
    try:
        api_key = settings.api_key_file.read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise InvalidRequest("The data directory holds no API key; start the server with `luthier serve`.") from error
    database = Database(settings.state_database)
    return Services(
        settings=settings,
        database=database,
        blobs=BlobStore(settings.blobs_dir),
        files=FileStore(database),
        uploads=UploadStore(database),
        parts=PartFiles(settings.uploads_dir),
        jobs=JobStore(database),
        overview=JobOverview(database),
        queue=JobQueue(database),
        control=JobControl(database),
        models=ModelStore(database),
        aliases=AliasStore(database, settings.aliases),
        permissions=PermissionStore(database),
        responses=ResponseStore(database),
        workers=WorkerStore(database),
        stored_completions=StoredCompletionStore(database),
        batches=BatchStore(database),
        dataset_tasks=DatasetTaskStore(database),
        webhooks=WebhookStore(database),
        webhook_sender=WebhookSender(settings),
        engine=EngineClient(environ.get("LUTHIER_ENGINE_SOCKET", ""), environ.get("LUTHIER_ENGINE_SECRET", "")),
        keys=KeyStore(database),
        sessions=SessionStore(database),
        signer=SessionSigner(read_secret(settings.session_secret_file)),
        # Clocks that no one sets: a rate must not break when the machine's time is corrected.
        rates=RateLimits(settings.organization, time.monotonic),
        bad_keys=BadKeys(settings.bad_keys_per_minute, time.monotonic),
        api_key=api_key,
    )


def services_of(request: Request) -> Services:
    """The services of the app that serves ``request``, over all projects."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


def caller_of(request: Request) -> Caller:
    """Whose request it is; ``auth.require_key`` has found it out."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


async def _all_services(request: Request) -> Services:
    return services_of(request)


async def _own_services(request: Request) -> Services:
    return services_of(request).in_project(caller_of(request).project_id)


async def _caller(request: Request) -> Caller:
    return caller_of(request)


async def _turn(request: Request) -> AsyncIterator[Turn]:
    services, caller = services_of(request), caller_of(request)
    # The edge adds them to whatever answer comes, a refusal included.
    request.state.rate_headers = lambda: services.rates.headers(caller.key_id, caller.limits)
    turn = services.rates.admit(caller.key_id, caller.limits)
    try:
        yield turn
    finally:
        # Here the whole answer is over: the last byte of a stream is sent, or its client is gone.
        turn.end()


Injected = Annotated[Services, Depends(_own_services)]
"""A route's parameter that receives the services, narrowed to the caller's project: what belongs to another is not there."""

WholeServer = Annotated[Services, Depends(_all_services)]
"""A route's parameter that receives the services over all projects: for administration, and where no key is needed."""

Calling = Annotated[Caller, Depends(_caller)]
"""A route's parameter that receives the caller."""

Metered = Annotated[Turn, Depends(_turn)]
"""A generating route's parameter: its turn, held until the answer is over. It stands before the body, which is not read in vain."""
