"""Signing in and out, and what is kept in the browser: a cookie that no script can read, and the theme."""

from typing import TYPE_CHECKING

from tests.browser.conftest import sign_in
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page


def test_a_wrong_key_is_told_in_the_servers_words(visitor: "Page", server: ServerProcess) -> None:
    sign_in(visitor, "sk-wrong")
    assert "Incorrect API key provided" in visitor.get_by_role("alert").inner_text()
    assert visitor.get_by_label("API key").input_value() == ""


def test_whoever_signed_in_stays_so_after_a_reload_and_keeps_no_secret(page: "Page", server: ServerProcess) -> None:
    page.reload()
    page.get_by_role("heading", name="Jobs", exact=True).wait_for()
    cookies = page.context.cookies()
    assert [(c.get("httpOnly"), c.get("sameSite")) for c in cookies] == [(True, "Strict")]
    assert cookies[0].get("name", "").startswith("luthier_session_")
    kept = page.evaluate("() => [document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href].join(' ')")
    assert server.key.strip() not in kept
    assert "csrf" not in kept.lower()


def test_signing_out_ends_the_session_for_every_page(page: "Page", server: ServerProcess) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    page.goto("/ui/system")
    page.get_by_label("API key").wait_for()


def test_the_theme_is_kept_and_changes_the_colours(page: "Page", server: ServerProcess) -> None:
    ground = "() => getComputedStyle(document.documentElement).backgroundColor"
    seen = set()
    for name in ("Light", "Dark", "High contrast"):
        page.get_by_label("Colours").select_option(name)
        seen.add(page.evaluate(ground))
    assert len(seen) == 3
    page.reload()
    assert page.get_by_label("Colours").input_value() == "contrast"


def test_the_keyboard_reaches_the_content_first_and_a_strange_address_leads_home(page: "Page", server: ServerProcess) -> None:
    page.goto("/ui/nothing-here")
    page.get_by_role("heading", name="No such page").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the content"
    page.get_by_role("link", name="To the jobs", exact=True).click()
    page.wait_for_url("**/ui/jobs")
    assert page.title() == "Jobs · Luthier"
