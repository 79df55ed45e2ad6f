"""``/webhook_endpoints`` and ``/webhook_event_types``: create, list, retrieve, update, delete, rotate, test (reference, section 6).

An admin's affair, over all projects: an endpoint hears of the jobs of all of them.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.bodies import json_body
from luthier.api.deps import Services, WholeServer
from luthier.api.replies import JsonReply, listing
from luthier.api.schemas.webhooks import EndpointCreateRequest, EndpointTestRequest, EndpointUpdateRequest, SecretRotationRequest
from luthier.api.webhooks.addresses import target_of
from luthier.api.webhooks.wire import endpoint_object
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.ids import new_job_id, new_webhook_event_id, new_webhook_id, new_webhook_secret
from luthier.core.webhooks import EVENT_TYPES, WebhookEndpoint, WebhookEvent

router = APIRouter()
OLD_SECRET_SECONDS = 24 * 3600.0


def _found(endpoint: WebhookEndpoint | None, endpoint_id: str) -> WebhookEndpoint:
    if endpoint is None:
        raise NotFound(f"No such webhook endpoint: {endpoint_id}", param="webhook_endpoint_id")
    return endpoint


def _types(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


@router.get("/webhook_event_types")
def list_event_types() -> Response:
    """The types of events that this server sends."""
    return JsonReply({"object": "list", "data": list(EVENT_TYPES)})


@router.post("/webhook_endpoints")
def create_endpoint(body: Annotated[EndpointCreateRequest, Depends(json_body(EndpointCreateRequest))], services: WholeServer) -> Response:
    """Register an address that is told of events; the answer shows its signing secret."""
    target_of(body.url, services.settings)
    now = int(services.clock())
    endpoint = WebhookEndpoint(
        id=new_webhook_id(),
        created_at=now,
        updated_at=now,
        name=body.name,
        url=body.url,
        event_types=_types(body.event_types),
        secret=new_webhook_secret(),
    )
    services.webhooks.insert(endpoint)
    return JsonReply(endpoint_object(endpoint, with_secret=True))


@router.get("/webhook_endpoints")
def list_endpoints(
    services: WholeServer,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> Response:
    """A page of endpoints, newest first."""
    page = services.webhooks.list(limit=limit, after=after)
    return JsonReply(listing([endpoint_object(endpoint) for endpoint in page.items], has_more=page.has_more, cursors=True))


@router.get("/webhook_endpoints/{webhook_endpoint_id}")
def retrieve_endpoint(webhook_endpoint_id: str, services: WholeServer) -> Response:
    """One endpoint, without its secret."""
    return JsonReply(endpoint_object(_endpoint(services, webhook_endpoint_id)))


@router.post("/webhook_endpoints/{webhook_endpoint_id}")
def update_endpoint(
    webhook_endpoint_id: str,
    body: Annotated[EndpointUpdateRequest, Depends(json_body(EndpointUpdateRequest, optional=True))],
    services: WholeServer,
) -> Response:
    """Change an endpoint's name, address or event types; what is still owed to it goes to the new address."""
    changes = body.model_dump(exclude_none=True)
    if body.url is not None:
        target_of(body.url, services.settings)
    if body.event_types is not None:
        changes["event_types"] = _types(body.event_types)
    updated = services.webhooks.update(webhook_endpoint_id, changes, services.clock())
    return JsonReply(endpoint_object(_found(updated, webhook_endpoint_id)))


@router.delete("/webhook_endpoints/{webhook_endpoint_id}")
def delete_endpoint(webhook_endpoint_id: str, services: WholeServer) -> Response:
    """Delete an endpoint and everything still owed to it."""
    if not services.webhooks.delete(webhook_endpoint_id):
        _found(None, webhook_endpoint_id)
    return JsonReply({"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


@router.post("/webhook_endpoints/{webhook_endpoint_id}/rotate_secret")
def rotate_secret(
    webhook_endpoint_id: str,
    body: Annotated[SecretRotationRequest, Depends(json_body(SecretRotationRequest, optional=True))],
    services: WholeServer,
) -> Response:
    """Sign with a new secret; the old one signs too for 24 hours if asked for, else it ends at once."""
    keep = OLD_SECRET_SECONDS if body.keep_old_secret_active_for_24_hours else 0.0
    rotated = services.webhooks.rotate(webhook_endpoint_id, new_webhook_secret(), services.clock(), keep)
    return JsonReply(endpoint_object(_found(rotated, webhook_endpoint_id), with_secret=True))


@router.post("/webhook_endpoints/{webhook_endpoint_id}/test")
async def send_test_event(
    webhook_endpoint_id: str, body: Annotated[EndpointTestRequest, Depends(json_body(EndpointTestRequest))], services: WholeServer
) -> Response:
    """Send a signed sample event now, once, and tell the status that the endpoint answered; its object id is nobody's."""
    endpoint = await run_in_threadpool(_endpoint, services, webhook_endpoint_id)
    event = WebhookEvent(id=new_webhook_event_id(), type=body.event_type, created_at=int(services.clock()), object_id=new_job_id())
    attempt = await services.webhook_sender.send(endpoint, event, new_webhook_id())
    if attempt.status_code is None:
        # 400, which the client's library does not repeat: one test, one event.
        message = f"The test event could not be delivered to the webhook endpoint: {attempt}."
        raise InvalidRequest(message, code="webhook_delivery_failed", param="webhook_endpoint_id")
    return JsonReply(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": endpoint.id,
            "event_type": event.type,
            "status_code": attempt.status_code,
            "success": True,
        }
    )


def _endpoint(services: Services, endpoint_id: str) -> WebhookEndpoint:
    return _found(services.webhooks.get(endpoint_id), endpoint_id)
