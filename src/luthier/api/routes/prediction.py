"""``POST /luthier/trace``: one real prediction in its layers, base beside tuned (``core/prediction.py`` tells the shape)."""

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.concurrency import run_in_threadpool

from luthier.api.bodies import json_body
from luthier.api.deps import Injected, Metered, Services
from luthier.api.model_names import ServedModel, find_served
from luthier.api.nearest_rows import nearest_rows, prompt_text
from luthier.api.prompts import plain_messages
from luthier.api.replies import JsonReply
from luthier.api.schemas.prediction import TraceRequest
from luthier.core.engine_messages import PredictionTrace, TracePrediction
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.jobs import ModelKind

router = APIRouter(prefix="/luthier")
_TRACE_SECONDS = 120.0
_USUAL_TIERS = ("A", "B")


@router.post("/trace")
async def trace_prediction(_turn: Metered, body: Annotated[TraceRequest, Depends(json_body(TraceRequest))], services: Injected) -> Response:
    """Trace one greedy prediction of a served model: tokens, probabilities, layers, attention, and the same under its base."""
    started = time.monotonic()
    if (body.messages is None) == (body.prompt is None):
        raise InvalidRequest("Exactly one of 'messages' and 'prompt' must be given.", code="missing_required_parameter", param="messages")
    served = await run_in_threadpool(find_served, services.models, services.settings, body.model)
    base = await run_in_threadpool(_base_of, services, served, body.base)
    messages = None if body.messages is None else plain_messages(body.messages)
    message = TracePrediction(
        target=served.target,
        base=None if base is None else base.target,
        messages=messages,
        prompt=body.prompt,
        max_tokens=body.max_tokens,
        tiers=tuple(sorted(set(body.tiers or _USUAL_TIERS))),
        layer=body.layer,
        token=body.token,
        path=tuple(body.path or ()),
        answer=body.answer,
    )
    reply = await services.engine.request(message, timeout_seconds=_TRACE_SECONDS)
    assert isinstance(reply, PredictionTrace)
    told: dict[str, Any] = {
        "object": "luthier.prediction_trace",
        "model": served.name,
        "base": None if base is None else base.name,
        **json.loads(reply.text),
        "nearest": None,
    }
    if body.nearest:
        text = prompt_text(messages, body.prompt)
        told["nearest"], reason = await run_in_threadpool(nearest_rows, services, served.record, text)
    else:
        reason = "Not asked for."
    if reason is not None:
        told["missing"] = [*told["missing"], {"tier": "nearest", "reason": reason}]
    return JsonReply({**told, "seconds": round(time.monotonic() - started, 4)})


def _base_of(services: Services, served: ServedModel, asked: str | None) -> ServedModel | None:
    """The model to compare with: the one that was named, else the tuned model's own base; None for a base alone."""
    if asked is not None:
        try:
            return find_served(services.models, services.settings, asked)
        except NotFound as error:
            raise NotFound(error.message, code=error.code, param="base") from error
    if served.record.kind is ModelKind.BASE:
        return None
    return find_served(services.models, services.settings, served.record.base)
