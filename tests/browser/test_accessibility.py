"""Every screen and view before axe-core, also of a saved page, in every theme: nothing serious and nothing critical.

axe-core is one of the dashboard's own development packages (``npm ci`` in ``web/``); where it is missing the tests are skipped and say so.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.check_web import WEB
from tests.browser.conftest import WAIT_MS, sign_in
from tests.browser.trained import Trained
from tests.support.command_line import luthier
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
VIEWS = ("", "/data", "/training", "/examples", "/prediction", "/compare", "/quiz", "/code", "/events")
SETTLED_MS = 700
THEMES = ("Light", "Dark", "High contrast")
GRAVE = ("serious", "critical")


def grave_faults(page: "Page", axe: str) -> list[str]:
    """Rule, place and reason of each serious or critical fault of what is shown now."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(axe)
    options = json.dumps({"runOnly": RULES, "resultTypes": ["violations"], "preload": False})
    found: list[dict[str, Any]] = page.evaluate(f"async () => (await axe.run(document, {options})).violations")
    return [
        f"{re.split('/ui/|#', page.url)[-1]}: {fault['id']}: {node['target']}: {node['failureSummary']}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.fixture(scope="module")
def axe() -> str:
    if not Path(AXE).is_file():
        pytest.skip("axe-core is not installed here: npm ci in web/")
    return AXE.read_text(encoding="utf-8")


def faults_in_all_themes(page: "Page", axe: str) -> list[str]:
    """Of what is shown now, in each of the three."""
    faults: list[str] = []
    for theme in THEMES:
        page.get_by_label("Colours").select_option(theme)
        faults += [f"{theme}: {fault}" for fault in grave_faults(page, axe)]
    return faults


@pytest.fixture
def reader(browser: "Browser") -> "Iterator[Page]":
    """A page without any network."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    yield context.new_page()
    context.close()


def test_the_door_has_no_serious_fault_in_any_theme(visitor: "Page", axe: str) -> None:
    visitor.goto("/ui/")
    visitor.get_by_label("API key").fill("sk-wrong")
    assert faults_in_all_themes(visitor, axe) == []
    visitor.get_by_role("button", name="Sign in").click()
    visitor.get_by_role("alert").wait_for()
    assert faults_in_all_themes(visitor, axe) == []


@pytest.mark.timeout(600)
def test_a_saved_page_has_no_serious_fault_in_any_theme(
    reader: "Page", server: ServerProcess, trained: Trained, axe: str, tmp_path: Path
) -> None:
    saved = tmp_path / "job.html"
    result = luthier("trace", trained.id, "--html", str(saved), url=server.url, key=server.key)
    assert result.exit_code == 0, result.output
    faults: list[str] = []
    for view in VIEWS:
        reader.goto(f"{saved.as_uri()}#{view or '/story'}")
        reader.locator("nav a[aria-current=page]").wait_for()
        reader.locator("#view-title").wait_for()
        reader.wait_for_timeout(SETTLED_MS)
        faults += faults_in_all_themes(reader, axe)
    assert faults == []


@pytest.mark.timeout(600)
def test_no_screen_has_a_serious_fault_in_any_theme(visitor: "Page", server: ServerProcess, trained: Trained, axe: str) -> None:
    faults: list[str] = []
    sign_in(visitor, server.key)
    screens = ["/ui/jobs", f"/ui/jobs?compare={trained.id}", "/ui/new", "/ui/data", f"/ui/data/{trained.training_file}"]
    screens += [f"/ui/playground?a=luthier-mini&b={trained.model}", "/ui/models", "/ui/system", "/ui/nothing-here"]
    for path in [*screens, *(f"/ui/jobs/{trained.id}{view}" for view in VIEWS)]:
        visitor.goto(path)
        visitor.locator("h1, #view-title").last.wait_for()
        # The stream stays open, so that the network is never quiet: what a view fetches is there by then.
        visitor.wait_for_timeout(SETTLED_MS)
        faults += faults_in_all_themes(visitor, axe)
    assert faults == []
