"""A job's trace events, read over HTTP into a ``TraceView``.

What it does not: draw or wait. Called by ``cli/trace.py``, ``cli/follow.py`` and the demo.
"""

from typing import TYPE_CHECKING

from luthier.cli.client import trace_page
from luthier.trace.events import PAYLOADS, event_from_dict
from luthier.trace.view import TraceView

if TYPE_CHECKING:
    import openai


def read_more(client: "openai.OpenAI", job_id: str, view: TraceView) -> bool:
    """Fold the next page into the view; True when more is there already. Events of a newer server are passed over."""
    page, has_more = trace_page(client, job_id, view.last_id)
    for plain in page:
        if plain["type"] in PAYLOADS:
            view.apply(event_from_dict(plain))
        else:
            view.last_id = max(view.last_id, int(plain["id"]))
    return has_more


def read_view(client: "openai.OpenAI", job_id: str) -> TraceView:
    """All events of a job so far."""
    view = TraceView()
    while read_more(client, job_id, view):
        pass
    return view
