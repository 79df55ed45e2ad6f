"""A page that is looked at while its server dies, comes back, or cannot stream: it says how it is, and goes on by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import WAIT_MS, sign_in
from tests.browser.trained import create
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BACK_MS = 90_000
TRAIN_MS = 120_000
STEP = "() => Number(/step ([\\d\\u202f]+) of/.exec(document.querySelector('main').innerText)?.[1].replace(/\\D/g, '') ?? 0)"
"""What the head of a job's page says."""


@pytest.fixture
def mortal(browser: "Browser", tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own, to be killed; after ``browser``, which skips where there is none."""
    server = ServerProcess(tmp_path / "data").start()
    yield server
    server.stop()


@pytest.fixture
def looking(browser: "Browser", mortal: ServerProcess) -> "Iterator[Page]":
    """Somebody signed in at that server."""
    context = browser.new_context(base_url=mortal.url, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    sign_in(page, mortal.key)
    page.get_by_role("navigation", name="Screens").wait_for()
    yield page
    context.close()


def reached(page: "Page", step: int) -> int:
    """Wait until more steps than that are shown."""
    page.wait_for_function(f"least => ({STEP})() > least", arg=step, timeout=TRAIN_MS)
    return page.evaluate(STEP)


@pytest.mark.timeout(500)
def test_a_jobs_page_goes_on_by_itself_after_its_server_was_killed(looking: "Page", mortal: ServerProcess) -> None:
    job_id = create(mortal, suffix="interrupted", epochs=50)
    looking.goto(f"/ui/jobs/{job_id}/training")
    before = reached(looking, 3)
    head = looking.get_by_role("progressbar", name="Progress of the job")

    port = mortal.url.rsplit(":", 1)[1]
    mortal.kill_all()
    looking.get_by_text("Not live", exact=True).wait_for()
    looking.get_by_text("not live: this may be old").wait_for()
    assert "not live" in (head.get_attribute("aria-valuetext") or "")
    assert looking.get_by_text("interrupted").first.is_visible(), "what was known stays on the page"
    looking.evaluate("() => (window.untouched = true)")

    mortal.start(port=port)
    looking.get_by_text("Live", exact=True).wait_for(timeout=BACK_MS)
    assert reached(looking, before) > before
    looking.get_by_text("The run was interrupted").or_(looking.get_by_role("application")).first.wait_for()
    assert looking.evaluate("() => window.untouched"), "nobody loaded the page anew"
    looking.get_by_role("button", name="Cancel", exact=True).click()
    looking.get_by_role("button", name="Cancel the job").click()
    looking.get_by_text("Cancelled", exact=True).wait_for()


@pytest.mark.timeout(500)
def test_without_the_stream_the_server_is_asked_and_the_page_says_so(looking: "Page", mortal: ServerProcess) -> None:
    # As a proxy does that lets no stream through.
    looking.route("**/v1/luthier/stream*", lambda route: route.abort())
    looking.reload()
    looking.get_by_text("Every 5 s", exact=True).wait_for()
    job_id = create(mortal, suffix="asked-for", epochs=50, rows=198)
    looking.get_by_role("link", name="asked-for").click()
    looking.wait_for_url(f"**/ui/jobs/{job_id}")
    before = reached(looking, reached(looking, 0))
    looking.get_by_text("Every 5 s", exact=True).wait_for()
    # It rests meanwhile: the page may wait 19 s before it tries the stream again, and a quick machine has trained it by then.
    jobs = mortal.client().fine_tuning.jobs
    jobs.pause(job_id)
    looking.get_by_text("Paused", exact=True).wait_for()

    looking.unroute("**/v1/luthier/stream*")
    looking.get_by_text("Live", exact=True).wait_for(timeout=BACK_MS)
    jobs.resume(job_id)
    assert reached(looking, before) > before
    jobs.cancel(job_id)
    looking.get_by_text("Cancelled", exact=True).wait_for()
