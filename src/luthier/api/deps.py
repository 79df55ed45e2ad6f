"""What routes work with: the services, built once at start and handed down.

What it does: names the services, builds them from the settings, and gives routes their dependency. What it does not:
read bodies (``bodies.py``) or check keys (``auth.py``). ``cli/serve.py`` calls ``build_services``; tests build their own.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from luthier.api.engine_client import EngineClient
from luthier.core.errors import InvalidRequest
from luthier.core.settings import Settings
from luthier.jobs.control import JobControl
from luthier.jobs.queue import JobQueue
from luthier.storage.aliases import AliasStore
from luthier.storage.blobs import BlobStore
from luthier.storage.database import Database
from luthier.storage.files import FileStore
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.storage.parts import PartFiles
from luthier.storage.permissions import PermissionStore
from luthier.storage.stored_completions import StoredCompletionStore
from luthier.storage.uploads import UploadStore
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
    queue: JobQueue
    control: JobControl
    models: ModelStore
    aliases: AliasStore
    permissions: PermissionStore
    workers: WorkerStore
    stored_completions: StoredCompletionStore
    engine: EngineClient
    api_key: str
    clock: Callable[[], float] = time.time


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
        queue=JobQueue(database),
        control=JobControl(database),
        models=ModelStore(database),
        aliases=AliasStore(database, settings.aliases),
        permissions=PermissionStore(database),
        workers=WorkerStore(database),
        stored_completions=StoredCompletionStore(database),
        engine=EngineClient(environ.get("LUTHIER_ENGINE_SOCKET", ""), environ.get("LUTHIER_ENGINE_SECRET", "")),
        api_key=api_key,
    )


def services_of(request: Request) -> Services:
    """The services of the app that serves ``request``."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


Injected = Annotated[Services, Depends(services_of)]
"""A route's parameter that receives the services."""
