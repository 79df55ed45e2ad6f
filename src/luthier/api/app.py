"""The application: a list of routers and handlers, and nothing else.

What it does: puts every route but the two health checks behind a key, the dashboard's pages beside them, and the edge around all;
sends webhooks and runs batches as long as it lives. What it does not: hold routes. Called by ``cli/serve.py`` and by tests.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, Depends, FastAPI

from luthier.api.auth import require_key
from luthier.api.batches.runner import BatchRunner
from luthier.api.dashboard import Dashboard
from luthier.api.deps import Services
from luthier.api.edge import Edge
from luthier.api.errors import HANDLED, handle
from luthier.api.machine_facts import DiskWatch
from luthier.api.pages import Pages
from luthier.api.routes import (
    aliases,
    batches,
    chat,
    checkpoint_permissions,
    completions,
    dashboard,
    datasets,
    files,
    fine_tuning,
    health,
    keys,
    luthier,
    models,
    prediction,
    rescue,
    responses,
    stored_completions,
    system,
    uploads,
    webhooks,
)
from luthier.api.webhooks.delivery import WebhookDeliveries
from luthier.core.settings import Settings

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""The only paths that need no key."""


def create_app(settings: Settings, services: Services, *, pages: Pages | None = None) -> FastAPI:
    """The ASGI application over ``services``, whose database it closes at its end; ``pages``: other files than the built ones."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        deliveries = WebhookDeliveries(services.webhooks, services.webhook_sender, clock=services.clock)
        working = (
            asyncio.create_task(deliveries.run(), name="webhooks"),
            asyncio.create_task(BatchRunner(app, services).run(), name="batches"),
        )
        yield
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        services.database.close()

    # No generated pages: they would be routes without a key. No redirects: they would repeat a body to another address.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.services = services
    # From now on, not from the first look at the System page: ten minutes after a start it tells when the disk is full.
    app.state.disk_watch = DiskWatch(settings.data_dir)
    app.add_middleware(Dashboard, pages=Pages() if pages is None else pages)
    app.add_middleware(Edge, settings=settings)  # the last one added is the outermost
    for error in HANDLED:
        app.add_exception_handler(error, handle)
    guarded = APIRouter(prefix="/v1", dependencies=[Depends(require_key)])
    for room in (
        files,
        uploads,
        fine_tuning,
        checkpoint_permissions,
        models,
        prediction,
        chat,
        stored_completions,
        completions,
        responses,
        luthier,
        dashboard,
        system,
        aliases,
        rescue,
        webhooks,
        keys,
        batches,
        datasets,
    ):
        guarded.include_router(room.router)
    app.include_router(guarded)
    app.include_router(health.router)
    return app
