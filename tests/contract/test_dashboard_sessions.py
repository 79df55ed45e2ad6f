"""The dashboard's session and pages, as an attacker's page or a curious neighbour would try them."""

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from luthier.api.pages import POLICY, Pages
from luthier.api.sessions import SESSION_SECONDS, Session
from luthier.core.keys import first_key_id
from tests.support.api_server import KEY, ApiServer

PAGE = b'<!doctype html><html lang="en"><title>Luthier</title><script type="module" src="/ui/assets/app-1a2b.js"></script></html>'
SCRIPT = b"export const answer = 42;\n"


@pytest.fixture
def browser(server: ApiServer) -> Iterator[httpx2.Client]:
    """A browser on the server's own page: it keeps cookies and says where its requests come from."""
    with httpx2.Client(base_url=server.url, headers={"origin": server.url, "sec-fetch-site": "same-origin"}, timeout=30) as client:
        yield client


def log_in(browser: httpx2.Client, key: str = KEY) -> str:
    """Logs in; returns the token for changes."""
    answer = browser.post("/ui/session", json={"api_key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()["csrf"]


def new_file(browser: httpx2.Client, **headers: str) -> httpx2.Response:
    row = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]}\n'
    return browser.post("/v1/files", data={"purpose": "fine-tune"}, files={"file": ("a.jsonl", row * 10)}, headers=headers)


def test_a_key_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(server: ApiServer, browser: httpx2.Client) -> None:
    answer = browser.post("/ui/session", json={"api_key": KEY})
    shown = answer.json()
    cookie = answer.headers["set-cookie"]
    assert re.match(r"luthier_session_[0-9a-f]{8}=sess_[0-9A-Za-z]{32}\.", cookie)
    flags = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"} <= flags
    assert "secure" not in flags  # the address is http; a browser would drop the cookie
    assert (shown["object"], shown["role"], shown["project_id"]) == ("luthier.session", "admin", "proj_default")
    assert KEY not in answer.text + cookie
    assert answer.headers["cache-control"] == "no-store"
    again = browser.get("/ui/session")
    assert again.json() == shown
    assert "access-control-allow-origin" not in answer.headers


def test_behind_tls_the_cookie_is_for_tls_alone(server: ApiServer) -> None:
    # uvicorn believes a proxy on this machine.
    headers = {"x-forwarded-proto": "https", "sec-fetch-site": "same-origin", "origin": server.url.replace("http:", "https:")}
    with httpx2.Client(base_url=server.url, headers=headers) as client:
        answer = client.post("/ui/session", json={"api_key": KEY})
    assert answer.status_code == 200
    assert "secure" in answer.headers["set-cookie"].lower()


def test_with_the_cookie_the_api_works_as_with_the_key(server: ApiServer, browser: httpx2.Client) -> None:
    csrf = log_in(browser)
    assert browser.get("/v1/models").status_code == 200
    made = new_file(browser, **{"x-luthier-csrf": csrf})
    assert made.status_code == 200
    assert browser.delete(f"/v1/files/{made.json()['id']}", headers={"x-luthier-csrf": csrf}).status_code == 200


def test_a_role_is_the_keys(server: ApiServer, browser: httpx2.Client) -> None:
    csrf = log_in(browser, server.new_key("read-only"))
    assert browser.get("/v1/files").status_code == 200
    refused = new_file(browser, **{"x-luthier-csrf": csrf})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "csrf_failed"),
        ({"x-luthier-csrf": ""}, "csrf_failed"),
        ({"x-luthier-csrf": "0" * 64}, "csrf_failed"),
        ({"x-luthier-csrf": "TOKEN", "origin": "http://evil.example"}, "cross_site_request"),
        ({"x-luthier-csrf": "TOKEN", "origin": "null"}, "cross_site_request"),
        ({"x-luthier-csrf": "TOKEN", "origin": "http://127.0.0.1:9"}, "cross_site_request"),
        ({"x-luthier-csrf": "TOKEN", "sec-fetch-site": "cross-site"}, "cross_site_request"),
        ({"x-luthier-csrf": "TOKEN", "sec-fetch-site": "same-site"}, "cross_site_request"),
    ],
)
def test_a_change_that_our_page_did_not_ask_for_is_refused(
    server: ApiServer, browser: httpx2.Client, headers: dict[str, str], code: str
) -> None:
    csrf = log_in(browser)
    before = len(server.services.files.list(limit=1000).items)
    answer = new_file(browser, **{name: csrf if value == "TOKEN" else value for name, value in headers.items()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)
    assert len(server.services.files.list(limit=1000).items) == before


def test_a_change_of_which_the_browser_does_not_say_whence_is_refused(server: ApiServer, browser: httpx2.Client) -> None:
    csrf = log_in(browser)
    cookies = {server.services.signer.cookie: browser.cookies[server.services.signer.cookie]}
    with httpx2.Client(base_url=server.url, cookies=cookies) as bare:
        assert bare.get("/v1/models").status_code == 200
        refused = new_file(bare, **{"x-luthier-csrf": csrf})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")


def test_reading_across_sites_is_refused_too(browser: httpx2.Client) -> None:
    log_in(browser)
    for site in ("cross-site", "same-site"):
        assert browser.get("/v1/files", headers={"sec-fetch-site": site}).status_code == 403
        assert browser.get("/ui/session", headers={"sec-fetch-site": site}).status_code == 403


def test_another_page_cannot_log_its_visitor_in(server: ApiServer) -> None:
    with httpx2.Client(base_url=server.url, headers={"origin": "http://evil.example", "sec-fetch-site": "cross-site"}) as evil:
        answer = evil.post("/ui/session", json={"api_key": KEY})
        form = evil.post("/ui/session", content=b'{"api_key": "x"}', headers={"content-type": "text/plain"})
    assert (answer.status_code, form.status_code) == (403, 403)
    assert "set-cookie" not in answer.headers


def test_logging_out_ends_every_copy_of_the_cookie(server: ApiServer, browser: httpx2.Client) -> None:
    csrf = log_in(browser)
    copied = {server.services.signer.cookie: browser.cookies[server.services.signer.cookie]}
    assert browser.delete("/ui/session").status_code == 403
    assert browser.delete("/ui/session", headers={"x-luthier-csrf": csrf}).status_code == 204
    assert server.services.signer.cookie not in browser.cookies
    with httpx2.Client(base_url=server.url, cookies=copied) as thief:
        assert thief.get("/v1/models").status_code == 401
        assert thief.get("/ui/session").status_code == 401
    assert log_in(browser)


def test_two_servers_on_one_host_do_not_log_each_other_out(server: ApiServer, browser: httpx2.Client, tmp_path: Path) -> None:
    # A browser has one jar for all ports of a host, and so has this client.
    neighbour = ApiServer(tmp_path / "data")
    pages = {one: {"origin": one.url, "sec-fetch-site": "same-origin"} for one in (server, neighbour)}
    tokens = {}
    for one, page in pages.items():
        answer = browser.post(f"{one.url}/ui/session", json={"api_key": KEY}, headers=page)
        tokens[one] = answer.json()["csrf"]
    assert [browser.get(f"{one.url}/v1/models", headers=page).status_code for one, page in pages.items()] == [200, 200]
    gone = browser.delete(f"{neighbour.url}/ui/session", headers={**pages[neighbour], "x-luthier-csrf": tokens[neighbour]})
    assert gone.status_code == 204
    assert [browser.get(f"{one.url}/v1/models", headers=page).status_code for one, page in pages.items()] == [200, 401]
    neighbour.stop()


def test_a_revoked_key_ends_its_sessions(server: ApiServer, browser: httpx2.Client) -> None:
    key = server.new_key("member")
    log_in(browser, key)
    assert browser.get("/v1/models").status_code == 200
    key_id = server.services.keys.list()[0].id
    server.services.keys.revoke(key_id, 1)
    answer = browser.get("/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "session_ended")


def test_a_cookie_that_we_did_not_sign_or_that_expired_is_none(server: ApiServer) -> None:
    signer, now = server.services.signer, int(server.services.clock())
    good = Session(id="sess_x", key_id=first_key_id(KEY), expires_at=now + 60)
    values = {
        "expired": signer.seal(Session(id="sess_x", key_id=first_key_id(KEY), expires_at=now - 1)),
        "other first key": signer.seal(Session(id="sess_x", key_id=first_key_id("sk-another"), expires_at=now + 60)),
        "longer": signer.seal(good).replace(str(good.expires_at), str(good.expires_at + 1)),
        "cut": signer.seal(good)[:-1],
        "csrf for mac": f"sess_x.{good.key_id}.{good.expires_at}.{signer.csrf(good)}",
        "empty": "",
        "dots": "...",
    }
    for name, value in values.items():
        with httpx2.Client(base_url=server.url, headers={"cookie": f"{signer.cookie}={value}"}) as client:
            assert client.get("/v1/models").status_code == 401, name
    with httpx2.Client(base_url=server.url, cookies={signer.cookie: signer.seal(good)}) as client:
        assert client.get("/v1/models").status_code == 200


def test_wrong_keys_at_the_login_are_counted_with_all_others(tmp_path: Path) -> None:
    server = ApiServer(tmp_path / "data", bad_keys_per_minute=3)
    with httpx2.Client(base_url=server.url) as client:
        codes = [client.post("/ui/session", json={"api_key": f"sk-wrong-{i}"}).status_code for i in range(4)]
        right = client.post("/ui/session", json={"api_key": KEY})
    server.stop()
    assert codes == [401, 401, 401, 429]
    assert right.status_code == 429


def test_no_secret_stands_in_the_log_or_in_an_error(server: ApiServer, browser: httpx2.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="luthier"):
        csrf = log_in(browser)
        wrong = browser.post("/ui/session", json={"api_key": KEY + "x"})
        browser.get("/v1/models")
    assert wrong.status_code == 401
    assert KEY not in wrong.text
    for secret in (KEY, csrf, browser.cookies[server.services.signer.cookie]):
        assert secret not in caplog.text
    assert server.services.settings.session_secret_file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("path", ["/", "/ui/", "/ui/session", "/ui/assets/app.js"])
def test_a_foreign_host_gets_nothing(server: ApiServer, path: str) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while piece := raw.recv(65536):
            answer += piece
    assert answer.split(b" ")[1] == b"403"


@pytest.fixture
def built(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> httpx2.Client:
    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_bytes(PAGE)
    (folder / "assets" / "app-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(Pages, "_read", _of(Pages(folder)))
    return httpx2.Client(base_url=server.url)


def _of(pages: Pages):
    read = Pages._read
    return lambda _self, name: read(pages, name)


def test_the_root_leads_to_the_dashboard(server: ApiServer) -> None:
    with httpx2.Client(base_url=server.url) as client:
        for path in ("/", "/ui"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (307, "/ui/")


def test_every_address_of_the_application_is_its_page(built: httpx2.Client) -> None:
    for path in ("/ui/", "/ui/jobs", "/ui/jobs/ftjob-abc/training", "/ui/playground?a=luthier-mini"):
        answer = built.get(path)
        assert (answer.status_code, answer.content) == (200, PAGE), path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["content-security-policy"] == POLICY
        assert "unsafe-inline" not in POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in POLICY
    again = built.get("/ui/", headers={"if-none-match": built.get("/ui/").headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_hashed_files_are_kept_for_good_and_nothing_else_is_reached(built: httpx2.Client) -> None:
    script = built.get("/ui/assets/app-1a2b.js")
    assert (script.status_code, script.content) == (200, SCRIPT)
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    assert built.head("/ui/assets/app-1a2b.js").content == b""
    outside = ("/ui/..%2fsecret.txt", "/ui/assets/..%2f..%2fsecret.txt", "/ui/%2fetc%2fpasswd.x")
    for path in (*outside, "/ui/assets/none.js", "/ui/a%00.js", "/ui/" + "a" * 300 + ".js"):
        answer = built.get(path)
        assert answer.status_code == 404, path
        assert "secret" not in answer.text.replace("secret.txt", "")
    assert built.post("/ui/jobs").status_code == 405
    assert built.put("/ui/session").status_code == 405


def test_without_the_built_files_a_page_says_what_to_do(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pages, "_read", _of(Pages(tmp_path)))
    with httpx2.Client(base_url=server.url) as client:
        answer = client.get("/ui/jobs")
    assert answer.status_code == 404
    assert "npm run build" in answer.text
    assert answer.headers["content-security-policy"] == POLICY
