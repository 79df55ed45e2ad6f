"""A real browser before a real server: what a person sees.

Chromium is the system's (``chromium`` on the PATH, or ``LUTHIER_CHROMIUM``); where it, Playwright or the built pages are missing, the
tests are skipped and say which. Every page fails its test when it throws, or when the content security policy had to refuse something.
"""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from scripts.check_web import BUNDLE
from tests.browser.trained import Trained, train
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT_MS = 60_000
"""For what a page shows by itself; a slow machine gets there too."""


def _chromium() -> str | None:
    return os.environ.get("LUTHIER_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@pytest.fixture(scope="package")
def browser() -> "Iterator[Browser]":
    """One browser for all tests of this folder, gone after them: as long as Playwright lives, its event loop counts as the main thread's
    own, and no other test could run one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium here: put it on the PATH or name it in LUTHIER_CHROMIUM")
    if not (BUNDLE / "index.html").is_file():
        pytest.skip("the dashboard is not built here: make web")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=_FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="package")
def server(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running server for all tests."""
    running = ServerProcess(tmp_path_factory.mktemp("data")).start()
    yield running
    running.stop()


@pytest.fixture(scope="package")
def trained(server: ServerProcess) -> Trained:
    """One job that has succeeded, with held-out rows; it and its models are there for all tests, and none deletes them."""
    return train(server)


@pytest.fixture
def visitor(browser: "Browser", server: ServerProcess) -> "Iterator[Page]":
    """A page before the server; nobody is signed in."""
    context = browser.new_context(base_url=server.url, viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page, faults = context.new_page(), []

    def hear(message: "ConsoleMessage") -> None:
        if "Content Security Policy" in message.text:
            faults.append(message.text)

    page.on("console", hear)
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(visitor: "Page", server: ServerProcess) -> "Page":
    """A page of somebody who is signed in, at the jobs."""
    sign_in(visitor, server.key)
    visitor.get_by_role("navigation", name="Screens").wait_for()
    return visitor


def sign_in(page: "Page", key: str) -> None:
    """Fill the form and send it."""
    page.goto("/ui/")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
