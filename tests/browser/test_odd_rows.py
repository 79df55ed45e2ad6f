"""A job with the longest names there can be, of rows written from right to left, one far too long: nothing is wider than its window,
and every word can be read."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

SUFFIX = "a-suffix-of-sixty-four-characters-that-nobody-but-a-script-types"
FILE = "every-conversation-of-the-year-" * 6 + "שלום.jsonl"
GREETING = ("ترجم إلى الفرنسية: صباح الخير", "القاهرة هي عاصمة جمهورية مصر العربية.")
LONG = "river mountain garden " * 2500
ROWS = [GREETING, ("מה שלומך?", "אני בסדר גמור, תודה רבה!"), ("Say all words.", LONG)]
NARROW = {"width": 360, "height": 800}
SETTLED_MS = 700
VIEWS = ("", "/data", "/training", "/examples", "/prediction", "/compare", "/quiz", "/code", "/events")


@pytest.fixture(scope="module")
def odd(server: ServerProcess) -> Any:
    """The job, done."""
    client = server.client()
    rows = ({"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]} for p, c in ROWS)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    train = client.files.create(file=(FILE, text * 4), purpose="fine-tune")
    valid = client.files.create(file=("valid.jsonl", text.splitlines(keepends=True)[0]), purpose="fine-tune")
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}}
    metadata = {"k" * 60: "v" * 500}
    job = client.fine_tuning.jobs.create(
        model="luthier-mini", training_file=train.id, validation_file=valid.id, suffix=SUFFIX, seed=3, method=method, metadata=metadata
    )
    done = server.wait_for_job(job.id)
    assert done.status == "succeeded", done.error
    return done


@pytest.mark.timeout(400)
def test_no_page_is_wider_than_a_narrow_window(page: "Page", odd: Any) -> None:
    page.set_viewport_size(NARROW)  # pyright: ignore[reportArgumentType]
    screens = [
        "/ui/jobs",
        f"/ui/jobs?compare={odd.id}",
        "/ui/data",
        f"/ui/data/{odd.training_file}",
        f"/ui/new?training={odd.training_file}",
    ]
    screens += [f"/ui/playground?a=luthier-mini&b={odd.fine_tuned_model}", "/ui/models", "/ui/system"]
    wider = []
    for path in [*screens, *(f"/ui/jobs/{odd.id}{view}" for view in VIEWS)]:
        page.goto(path)
        page.locator("h1, #view-title").last.wait_for()
        page.wait_for_timeout(SETTLED_MS)
        over = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            wider.append(f"{path}: {over} px")
    assert wider == []


@pytest.mark.timeout(400)
def test_a_row_from_right_to_left_is_read_character_by_character(page: "Page", odd: Any) -> None:
    page.goto(f"/ui/jobs/{odd.id}/data")
    strip = page.get_by_label("Tokens of line 1", exact=True)
    strip.wait_for()
    assert strip.get_attribute("dir") == "rtl"
    read = "".join(strip.locator(".token").all_inner_texts()).replace("…", "").replace("·", " ")
    assert GREETING[0] in read
    assert GREETING[1] in read
    page.goto(f"/ui/jobs/{odd.id}/compare")
    page.locator("main").get_by_text(GREETING[0]).first.wait_for()


@pytest.mark.timeout(400)
def test_a_row_far_too_long_is_drawn_piece_by_piece_and_says_what_is_cut_off(page: "Page", odd: Any) -> None:
    page.goto(f"/ui/jobs/{odd.id}/data")
    page.get_by_label("Line", exact=True).fill("3")
    page.get_by_label("Line", exact=True).press("Enter")
    strip = page.get_by_label("Tokens of line 3", exact=True)
    strip.wait_for()
    page.get_by_text("cut off at 512").wait_for()
    assert strip.locator(".token").count() == 400
    page.get_by_role("button", name="Show 2000 more tokens").click()
    page.wait_for_function("strip => strip.querySelectorAll('.token').length === 2400", arg=strip.element_handle())
    assert "cut off: the model never sees it" in (strip.locator(".token").last.get_attribute("title") or "")
