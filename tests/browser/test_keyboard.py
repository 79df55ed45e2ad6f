"""The dashboard without a mouse: every control is a stop of the Tab key with a visible focus, and the way from the door to an answer is
walked by keys alone. Also: nothing moves where the system asks for less motion."""

import re
from typing import TYPE_CHECKING

import pytest

from tests.browser.trained import Trained
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

ANSWER_MS = 60_000
MOST_STOPS = 400
SETTLED_MS = 700
VIEWS = ("", "/data", "/training", "/examples", "/prediction", "/compare", "/quiz", "/code", "/events")

NAME = """() => {
  const at = document.activeElement;
  const text = at?.getAttribute('aria-label') || at?.labels?.[0]?.innerText || at?.innerText || at?.placeholder || '';
  return text.trim().split('\\n')[0];
}"""
"""What the focused element is called."""
STOPS = """() => {
  const wanted = ':is(a[href], button, input, select, textarea, summary, [tabindex]):not(:disabled)';
  const seen = (one) => one.checkVisibility({ visibilityProperty: true });
  const stops = [...document.querySelectorAll(wanted)].filter((one) => one.tabIndex >= 0 && seen(one));
  // One stop for a group of radio buttons: the chosen one.
  const found = stops.filter((one) => one.type !== 'radio' || one.checked);
  found.forEach((one, i) => (one.dataset.stop = String(i)));
  return found.length;
}"""
"""Numbers all elements that Tab is to reach; how many there are."""
FOCUS = """() => {
  const at = document.activeElement;
  const marked = (one) => one && (getComputedStyle(one).outlineStyle !== 'none' || getComputedStyle(one).boxShadow !== 'none');
  // A hidden field for files is marked at its label.
  const shown = marked(at) || [...(at.labels ?? [])].some(marked);
  return [at.dataset.stop ?? null, shown, at.outerHTML.slice(0, 160)];
}"""


def tab_to(page: "Page", name: str, *, backwards: bool = False) -> None:
    """Press Tab until the focus is on what has that name, or begins with it."""
    seen: list[str] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        seen.append(page.evaluate(NAME))
        if seen[-1].startswith(name):
            return
    raise AssertionError(f"Tab never came to {name!r}, only to {list(dict.fromkeys(seen))}")


def tab_into(page: "Page", selector: str) -> None:
    """Press Tab until the focus is somewhere in there."""
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.closest(selector) != null", selector):
            return
    raise AssertionError(f"Tab never came into {selector}")


def press(page: "Page", *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def unreached(page: "Page") -> list[str]:
    """Walk through the whole page by Tab; what was not come to, and what does not show that it has the focus."""
    page.evaluate("() => { document.activeElement?.blur(); window.getSelection()?.removeAllRanges(); }")
    wanted = {str(number) for number in range(page.evaluate(STOPS))}
    reached: set[str] = set()
    unseen: list[str] = []
    for _ in range(len(wanted) + 20):
        page.keyboard.press("Tab")
        stop, shown, html = page.evaluate(FOCUS)
        if stop in reached:
            break
        if stop is not None:
            reached.add(stop)
            if not shown:
                unseen.append(f"no visible focus: {html}")
    left = [
        page.evaluate("n => document.querySelector(`[data-stop='${n}']`)?.outerHTML.slice(0, 160)", n) for n in sorted(wanted - reached)
    ]
    return [*(f"not reached: {html}" for html in left if html), *unseen]


@pytest.mark.timeout(600)
def test_tab_comes_to_every_control_of_every_screen_and_one_sees_where_it_is(page: "Page", trained: Trained) -> None:
    screens = ["/ui/jobs", f"/ui/jobs?compare={trained.id}", "/ui/new", "/ui/data", f"/ui/data/{trained.training_file}"]
    screens += [f"/ui/playground?a=luthier-mini&b={trained.model}", "/ui/models", "/ui/system"]
    faults = []
    for path in [*screens, *(f"/ui/jobs/{trained.id}{view}" for view in VIEWS)]:
        page.goto(path)
        page.locator("h1, #view-title").last.wait_for()
        page.wait_for_timeout(SETTLED_MS)
        faults += [f"{path}: {fault}" for fault in unreached(page)]
    assert faults == []


@pytest.mark.timeout(600)
def test_every_term_tells_its_meaning_to_the_keyboard(page: "Page", trained: Trained) -> None:
    seen: set[str] = set()
    for path in ("/ui/new", *(f"/ui/jobs/{trained.id}{view}" for view in VIEWS)):
        page.goto(path)
        page.locator("h1, #view-title").last.wait_for()
        page.wait_for_timeout(SETTLED_MS)
        for term in page.locator("main .term").all():
            if not term.is_visible():
                continue
            term.focus()
            page.keyboard.press("Enter")
            note = page.locator(".note:popover-open")
            note.wait_for()
            seen.add(note.locator("strong").inner_text())
            assert len(note.inner_text()) > len(note.locator("strong").inner_text()) + 20
            page.keyboard.press("Escape")
            note.wait_for(state="detached")
            assert term.evaluate("one => one === document.activeElement")
    assert {"token", "loss", "epoch", "held-out", "accuracy", "trained token"} <= seen


@pytest.mark.timeout(400)
def test_from_the_door_to_a_started_job_by_keys_alone(visitor: "Page", server: ServerProcess, trained: Trained) -> None:
    page = visitor
    page.goto("/ui/")
    page.get_by_label("API key").wait_for()
    tab_to(page, "API key")
    page.keyboard.type(server.key)
    press(page, "Enter")
    page.get_by_role("heading", name="Jobs", exact=True).wait_for()

    # The list: sort, filter, choose, and walk.
    tab_to(page, "Best held-out loss")
    press(page, "Enter")
    page.wait_for_url(re.compile("sort=best_valid_loss"))
    tab_to(page, "Status", backwards=True)
    tab_to(page, "Status", backwards=True)
    page.keyboard.type("Succ")
    page.wait_for_url(re.compile("status=succeeded"))
    tab_to(page, "Choose looked-at")
    press(page, "Space")
    tab_to(page, "Lay over each other", backwards=True)
    press(page, "Enter")
    page.wait_for_url(re.compile("compare="))
    tab_to(page, "Close")
    press(page, "Enter")

    # A job of a file that is there.
    tab_to(page, "New job")
    press(page, "Enter")
    page.get_by_role("heading", name="New job").wait_for()
    page.locator("select.files").first.locator("option").nth(1).wait_for(state="attached")
    tab_to(page, "or one that is here:")
    page.keyboard.type("train.jsonl")
    page.get_by_text("rows, no fault.").wait_for()
    tab_to(page, "Epochs")
    tab_to(page, "Epochs")
    page.keyboard.type("1")
    tab_to(page, "Suffix")
    page.keyboard.type("by-keys")
    tab_to(page, "Start the job")
    press(page, "Enter")
    page.wait_for_url(re.compile("/ui/jobs/ftjob-"))
    page.get_by_role("heading", name="by-keys").wait_for()
    tab_to(page, "Cancel")
    press(page, "Enter")
    tab_to(page, "Cancel the job")
    press(page, "Enter")
    page.get_by_text("Cancelled", exact=True).or_(page.get_by_text("Succeeded", exact=True)).first.wait_for()
    tab_to(page, "Sign out", backwards=True)
    press(page, "Enter")
    page.get_by_label("API key").wait_for()


@pytest.mark.timeout(400)
def test_the_views_of_a_job_by_keys_alone(page: "Page", trained: Trained) -> None:
    page.goto(f"/ui/jobs/{trained.id}")
    page.locator("#view-title").wait_for()
    tab_to(page, "Story")
    press(page, "ArrowRight", "ArrowRight", "Enter")
    page.wait_for_url("**/training")

    # The chart: read, zoom, as a table, as CSV.
    page.get_by_role("application").wait_for()
    page.locator("#curve .u-over").wait_for(state="attached")
    tab_to(page, "Train loss")
    press(page, "ArrowLeft", "ArrowLeft")
    assert re.search(r"Step \d+: .*\d", page.locator("#curve [role=status]").inner_text())
    press(page, "+")
    page.get_by_role("button", name="Whole run").wait_for()
    press(page, "0")
    tab_to(page, "CSV", backwards=True)
    with page.expect_download() as loaded:
        press(page, "Enter")
    assert loaded.value.suggested_filename == f"{trained.id}-loss.csv"
    tab_to(page, "Show as table", backwards=True)
    press(page, "Enter")
    page.locator("#curve tbody tr").first.wait_for()

    # The quiz leads to the place that shows the answer.
    page.goto(f"/ui/jobs/{trained.id}/quiz")
    page.locator("#question-1").wait_for()
    tab_to(page, "A")
    press(page, "Enter")
    tab_to(page, "See it on the page")
    press(page, "Enter")
    page.wait_for_function("() => location.hash && document.activeElement.id === location.hash.slice(1)")


@pytest.mark.timeout(400)
def test_a_prediction_is_traced_read_and_branched_by_keys_alone(page: "Page", trained: Trained) -> None:
    page.goto(f"/ui/jobs/{trained.id}/prediction")
    page.locator("#view-title").wait_for()
    tab_to(page, "Prompt")
    press(page, "Control+a")
    page.keyboard.type("Translate to French: Good morning")
    tab_to(page, "Trace it")
    press(page, "Enter")
    page.get_by_text("Traced in").wait_for(timeout=ANSWER_MS)
    tab_to(page, "<|")
    press(page, "ArrowRight")
    told = page.locator("#layer-1 [role=status]")
    assert re.search(r"Token 2 of \d+: .*id \d+, bytes [\da-f ]+, user", told.inner_text())
    press(page, "End")
    assert "special" in told.inner_text()
    steps = page.get_by_role("list", name="Steps of the tuned answer").get_by_role("button")
    tab_into(page, "[aria-label='Steps of the tuned answer']")
    press(page, "ArrowRight")
    assert steps.nth(1).evaluate("one => one === document.activeElement")
    tab_into(page, "#layer-5 .branches")
    press(page, "Enter")
    page.get_by_role("navigation", name="Branches").get_by_role("button").nth(1).wait_for(timeout=ANSWER_MS)


@pytest.mark.timeout(400)
def test_two_models_are_asked_and_a_token_is_read_by_keys_alone(page: "Page", trained: Trained) -> None:
    page.goto(f"/ui/playground?a=luthier-mini&b={trained.model}")
    page.get_by_label("Message").wait_for()
    tab_to(page, "Message")
    page.keyboard.type("Translate to French: Good morning")
    press(page, "Control+Enter")
    page.get_by_role("button", name="Token probabilities").nth(1).wait_for(timeout=ANSWER_MS)
    tab_to(page, "Token probabilities")
    if page.evaluate("() => document.activeElement.getAttribute('aria-pressed')") != "true":
        press(page, "Enter")
    strip = page.get_by_role("group", name="Answer of A, token by token")
    strip.wait_for()
    tab_into(page, "[aria-label='Answer of A, token by token']")
    press(page, "Enter")
    page.get_by_text("Token 1 of").wait_for()


def test_nothing_moves_where_less_motion_is_asked_for(page: "Page", trained: Trained) -> None:
    for path in ("/ui/jobs", f"/ui/jobs/{trained.id}/training"):
        page.goto(path)
        page.locator("h1, #view-title").last.wait_for()
        moving = page.evaluate(
            "() => [...document.querySelectorAll('*')].map((one) => [one, getComputedStyle(one)])"
            ".filter(([, style]) => parseFloat(style.transitionDuration) > 0 || parseFloat(style.animationDuration) > 0.001)"
            ".map(([one]) => one.outerHTML.slice(0, 80))"
        )
        assert moving == []
        assert page.evaluate("() => document.getAnimations().length") == 0
