"""The file that ``luthier trace JOB --html`` writes, opened from the disk by a browser without any network."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from luthier.core.stage import Stage
from luthier.trace.quiz import quiz_of
from luthier.trace.view import TraceView
from tests.browser.conftest import WAIT_MS
from tests.browser.test_jobs import create, told
from tests.support.command_line import luthier
from tests.support.examples import pairs
from tests.support.fake_server import serving
from tests.support.saved_jobs import JOB, event_row, large_job
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SUFFIX = "first-french"
HELD_OUT = 8
Show = Callable[[Path, str], str]


def squeezed(text: str) -> str:
    """Without spaces, and without the sign that tokens have for them: words may be parted into tokens."""
    return re.sub(r"[\s·]", "", text)


def shown_loss(value: float | None) -> str:
    assert value is not None
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


@pytest.fixture
def reader(browser: "Browser") -> "Iterator[Page]":
    """A page that reaches nothing but the file, and whose faults fail the test."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page, faults = context.new_page(), []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else faults.append(request.url))
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def show(reader: "Page") -> Show:
    """Open a view of a file by its address; everything that can be read there."""

    def open_view(path: Path, view: str) -> str:
        reader.goto(f"{path.as_uri()}#/{view}")
        reader.locator(f"nav a[aria-current=page][href='#/{view}']").wait_for()
        reader.locator("#view-title").wait_for()
        return reader.locator("main").inner_text()

    return open_view


@pytest.fixture(scope="module")
def saved(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TraceView]:
    """A trained job's page, and the job as its log tells it; its server, one of its own, is gone when the page is read."""
    server = ServerProcess(tmp_path_factory.mktemp("data")).start()
    job_id = create(server, suffix=SUFFIX, epochs=2)
    assert server.wait_for_job(job_id).status == "succeeded"
    target = tmp_path_factory.mktemp("saved") / "job.html"
    result = luthier("trace", job_id, "--html", str(target), url=server.url, key=server.key)
    assert result.exit_code == 0, result.output
    view = told(server, job_id)
    server.stop()
    return target, view


@pytest.mark.timeout(400)
def test_each_of_the_nine_views_shows_the_users_own_number_and_word(saved: tuple[Path, TraceView], show: Show) -> None:
    path, view = saved
    assert path.stat().st_size <= 1_000_000
    last, sizes, evaluation, prediction = (
        view.ordered_epochs()[-1],
        view.stages[Stage.PREPROCESSING].report,
        view.evaluation,
        view.prediction,
    )
    assert sizes is not None
    assert evaluation is not None
    assert prediction is not None
    answer, held_out = pairs()[0][1], pairs("valid.jsonl", HELD_OUT)[0]
    quiz = quiz_of(view)
    assert quiz is not None
    checkpoint = view.checkpoints[min(view.checkpoints)]
    wanted: dict[str, tuple[str, ...]] = {
        "story": (shown_loss(last.valid_loss), answer),
        "data": (sizes.shape_out, answer),
        # Curves hold no text of a row; the page's head names the job by the user's word.
        "training": (shown_loss(last.valid_loss), view.observations()[2], SUFFIX),
        "examples": ("highest loss after epoch 2", *held_out),
        "prediction": (f"{len(prediction['prompt_tokens'])} tokens", prediction["tuned"]["answer"], held_out[0]),
        "compare": (f"{evaluation['better']} of {HELD_OUT} held-out rows", *held_out),
        "quiz": (shown_loss(view.base.loss if view.base else None), *(one["question"] for one in quiz["questions"])),
        "code": ("seed=7", SUFFIX),
        "events": (f"Epoch {checkpoint.epoch}, step {checkpoint.step}", SUFFIX),
    }
    for name, parts in wanted.items():
        text = squeezed(show(path, name))
        for part in parts:
            assert squeezed(part) in text, f"{name}: {part}"


def test_a_chart_can_be_read_as_a_table_and_every_step_is_there(saved: tuple[Path, TraceView], reader: "Page", show: Show) -> None:
    path, view = saved
    show(path, "training")
    reader.locator("#curve").get_by_role("button", name="Show as table").click()
    rows = reader.locator("#curve tbody tr")
    rows.first.wait_for()
    steps = [int(rows.nth(i).locator("td").first.inner_text()) for i in range(rows.count())]
    assert steps == [step.step for step in view.ordered_steps()]


def test_a_large_job_with_hostile_text_says_what_is_missing_and_shows_text_as_text(reader: "Page", show: Show, tmp_path: Path) -> None:
    hostile = "</script><script>alert('owned')</script><img src=x onerror=alert(1)> \u202eabc \ud83d"
    job = large_job()
    job.suffix = hostile
    job.events.append(event_row(9003, hostile))
    job.view["evaluation"]["samples"][0]["tuned"] = hostile
    target = tmp_path / "job.html"
    with serving(job.api()) as url:
        assert luthier("trace", JOB, "--html", str(target), url=url).exit_code == 0
    with serving(job.api()) as url:
        assert luthier("trace", JOB, "--html", str(tmp_path / "traced.html"), "--prompt", "Hi", url=url).exit_code == 0
    traced = show(tmp_path / "traced.html", "prediction")
    assert "traced when this page was saved" in traced
    assert "Not shown" not in traced
    for view in ("story", "training", "examples", "prediction", "quiz", "code"):
        show(target, view)
    assert "alert('owned')" in show(target, "compare")
    assert "</script><script>alert('owned')</script><img src=x onerror=alert(1)>" in show(target, "events")
    reader.get_by_text("Not everything fits into this page").click()
    reader.get_by_text("of 2,000 compared answers are kept; the counts are of all.").wait_for()
    assert reader.locator("img").count() == 0
