"""A job as one self-contained HTML file: ``luthier trace JOB --html FILE``.

What it does: reads over HTTP what the nine views show, and puts it into the page that ``make web`` builds for one job
(``api/static/twin.html``). What it does not: draw, or choose what a large job leaves out (``cli/job_page_size.py``). Called by
``cli/trace.py``. The page needs neither server nor network; text of the job stands in it as JSON only, never as HTML.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files as package_files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from luthier import __version__
from luthier.cli.client import get, trace_page
from luthier.cli.job_page_size import MAX_POINTS, fitted
from luthier.core.errors import LuthierError

if TYPE_CHECKING:
    import openai

MAX_BYTES = 1_000_000
_PLACE = b'<script type="application/json" id="job-data">null</script>'
_MAX_ROWS = 1000
_EVENT_PAGE, _EVENT_PAGES = 1000, 20
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class JobPage:
    """The file, and what it does not hold."""

    content: bytes
    left_out: tuple[str, ...]
    """A sentence each; the page shows the same ones."""


def job_page(client: "openai.OpenAI", job_id: str, *, traced: dict[str, Any] | None = None, max_bytes: int = MAX_BYTES) -> JobPage:
    """Read the job and fill the page.

    Args:
        traced: a ``luthier.prediction_trace`` that the prediction view shows in place of what the run recorded.

    Raises:
        openai.APIError: the server refuses, or does not answer.
        LuthierError: this installation has no page to fill, or what must be in it is larger than ``max_bytes``.
    """
    frame = page_frame()
    whole = {**read_job(client, job_id), "traced": traced}
    size = max_bytes - len(frame) + len("null")
    saved = fitted(whole, lambda points: _metrics(client, job_id, points), lambda job: len(as_json(job)) <= size)
    if saved is None:
        raise LuthierError(f"{job_id} does not fit into a page of {max_bytes:,} bytes, whatever is left out. See: luthier trace {job_id}")
    filled = _PLACE.replace(b"null", as_json(saved))
    return JobPage(frame.replace(_PLACE, filled), tuple(saved["left_out"]))


def page_frame() -> bytes:
    """The built page without a job.

    Raises:
        LuthierError: it was not built, or has no place for a job.
    """
    path = package_files("luthier") / "api" / "static" / "twin.html"
    try:
        frame = path.read_bytes()
    except OSError as error:
        raise LuthierError(
            "This installation lacks the page of a saved job; make web builds it. Look at it with: luthier doctor"
        ) from error
    if frame.count(_PLACE) != 1:
        raise LuthierError("The page of a saved job has no place for a job; make web builds it anew. Look at it with: luthier doctor")
    return frame


def as_json(saved: dict[str, Any]) -> bytes:
    """JSON that cannot end the element which it stands in; half a surrogate pair stays an escape, as JSON allows."""
    text = json.dumps(saved, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return _LONE_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def read_job(client: "openai.OpenAI", job_id: str) -> dict[str, Any]:
    """Everything of the job that a page may hold (``SavedJob`` in ``web/src/lib/jobdata.ts``), with ``step_count`` and
    ``more_events`` beside it for what is left out."""
    told = get(client, _ours(job_id, "view"))
    count = int(told["step_count"])
    events, more = _events(client, job_id)
    return {
        "row": told["job"],
        "view": {**told["view"], "steps": _steps(client, job_id) if 0 < count <= MAX_POINTS else []},
        "metrics": _metrics(client, job_id, MAX_POINTS),
        "rowLosses": _optional(lambda: get(client, _ours(job_id, "row_losses"), order="loss", limit=_MAX_ROWS)),
        "events": events,
        "quiz": told["quiz"],
        "insight": told["insight"],
        "code": told["code"],
        "cost": told["openai_cost"],
        "saved_at": int(time.time()),
        "version": __version__,
        "step_count": count,
        "more_events": more,
    }


def _ours(job_id: str, what: str) -> str:
    return f"/luthier/jobs/{quote(job_id, safe='')}/{what}"


def _optional(answer: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What is missing is not there yet; the page says so."""
    import openai

    try:
        return answer()
    except openai.NotFoundError:
        return None


def _metrics(client: "openai.OpenAI", job_id: str, points: int) -> dict[str, Any] | None:
    return _optional(lambda: get(client, _ours(job_id, "metrics"), points=points))


def _steps(client: "openai.OpenAI", job_id: str) -> list[dict[str, Any]]:
    """Every step as the log tells it, in order; of one that a resumed run repeats, the later attempt."""
    steps: dict[int, dict[str, Any]] = {}
    after, more = 0, True
    while more:
        page, more = trace_page(client, job_id, after)
        for event in page:
            after = max(after, int(event["id"]))
            if event["type"] == "StepDone":
                steps[int(event["data"]["step"])] = event["data"]
        more = more and bool(page)
    return [steps[number] for number in sorted(steps)]


def _events(client: "openai.OpenAI", job_id: str) -> tuple[list[dict[str, Any]], bool]:
    """The newest events, oldest first, and whether there are older ones."""
    found: list[dict[str, Any]] = []
    path, after, more = f"/fine_tuning/jobs/{quote(job_id, safe='')}/events", None, True
    for _ in range(_EVENT_PAGES):
        page = get(client, path, limit=_EVENT_PAGE, after=after)
        found += page["data"]
        more = bool(page["has_more"]) and bool(page["data"])
        if not more:
            break
        after = page["data"][-1]["id"]
    return found[::-1], more
