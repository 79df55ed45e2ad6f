"""Every screen and view before axe-core, in light and in dark: nothing serious and nothing critical.

axe-core is one of the dashboard's own development packages (``npm ci`` in ``web/``); where it is missing the tests are skipped and say so.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.check_web import WEB
from tests.browser.conftest import sign_in
from tests.browser.trained import Trained
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

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
        f"{page.url.split('/ui/')[1]}: {fault['id']}: {node['target']}: {node['failureSummary']}"
        for fault in found
        if fault["impact"] in GRAVE
        for node in fault["nodes"]
    ]


@pytest.fixture(scope="module")
def axe() -> str:
    if not Path(AXE).is_file():
        pytest.skip("axe-core is not installed here: npm ci in web/")
    return AXE.read_text(encoding="utf-8")


@pytest.mark.timeout(600)
def test_no_screen_has_a_serious_fault_in_any_theme(visitor: "Page", server: ServerProcess, trained: Trained, axe: str) -> None:
    visitor.goto("/ui/")
    visitor.get_by_label("API key").wait_for()
    faults = grave_faults(visitor, axe)
    sign_in(visitor, server.key)
    screens = ["/ui/jobs", f"/ui/jobs?compare={trained.id}", "/ui/new", "/ui/data", f"/ui/data/{trained.training_file}"]
    screens += [f"/ui/playground?a=luthier-mini&b={trained.model}", "/ui/models", "/ui/system", "/ui/nothing-here"]
    for path in [*screens, *(f"/ui/jobs/{trained.id}{view}" for view in VIEWS)]:
        visitor.goto(path)
        visitor.locator("h1, #view-title").last.wait_for()
        # The stream stays open, so that the network is never quiet: what a view fetches is there by then.
        visitor.wait_for_timeout(SETTLED_MS)
        for theme in THEMES:
            visitor.get_by_label("Colours").select_option(theme)
            faults += [f"{theme}: {fault}" for fault in grave_faults(visitor, axe)]
    assert faults == []
