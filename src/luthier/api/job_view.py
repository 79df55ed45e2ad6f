"""Everything that the views of one job are drawn from: ``luthier.job_view``.

What it does: folds what the run told (``trace/story.py``: its log without the steps, which ``trace/levels.py`` has for charts) into the one
data object; with it the quiz, the insight, and the calls that reproduce the job. What it does not: follow a run (``tab_stream.py``).
Called by ``routes/dashboard.py``. A view is kept for a while, as long as the log does not grow.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from luthier.api.job_code import job_code
from luthier.core.jobs import Job
from luthier.core.prices import openai_prices
from luthier.core.settings import Settings
from luthier.trace.insight import insight_of
from luthier.trace.levels import count_steps
from luthier.trace.quiz import quiz_of
from luthier.trace.reader import each_event
from luthier.trace.story import story_view, write_story
from luthier.trace.view import view_of

TRACE_FILE = "trace.jsonl"
_KEPT = 32
_known: OrderedDict[Path, tuple[int, dict[str, Any]]] = OrderedDict()
_lock = threading.Lock()


def job_view(job: Job, row: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The answer.

    Args:
        row: the job's ``luthier.job``.
    """
    tokens = job.trained_tokens
    prices = () if tokens is None else openai_prices(settings, job.model, tokens)
    return {
        "object": "luthier.job_view",
        "job": row,
        **_told(settings.run_dir(job.id), final=job.status.is_final),
        "code": job_code(job),
        "openai_cost": prices[0].to_dict() if len(prices) == 1 else None,
    }


def _told(run_dir: Path, *, final: bool) -> dict[str, Any]:
    """What the log says, as long as it is this long."""
    path = run_dir / TRACE_FILE
    size = path.stat().st_size if path.exists() else 0
    with _lock:
        known = _known.get(path)
        if known is not None and known[0] == size:
            _known.move_to_end(path)
            return known[1]
    view = story_view(run_dir)
    if view is None and size and final:
        # A run of before there were stories, or of which it was lost. Of one that is not over, its own process makes it.
        write_story(run_dir)
        view = story_view(run_dir)
    if view is None:
        view = view_of(each_event(path))
    made = {
        "view": {**view.to_dict(), "steps": []},
        "step_count": len(view.steps) or count_steps(run_dir),
        "quiz": quiz_of(view),
        "insight": insight_of(view),
    }
    with _lock:
        _known[path] = (size, made)
        while len(_known) > _KEPT:
            _known.popitem(last=False)
    return made
