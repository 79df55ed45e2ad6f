"""The dashboard in a real browser before a real server that holds 5,000 jobs: first paint, time to the list, and scrolling it.

What it does: Chromium without a graphics card opens the page as somebody who is signed in, with an empty cache (each time a new
context) and with a full one; then the list is scrolled from its first job to its last, a wheel's turn a frame, and each frame is timed.
What it does not: judge the look (``tests/browser``), or time the server's answers alone (``bench_dashboard.py``).

Run: ``python -m benchmarks.bench_page``; needs Playwright and Chromium. The bound for the first paint is half a second.
"""

import os
import shutil
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.large_database import build
from benchmarks.measured import Server, median, record, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

JOBS, REPEATS = 5_000, 7
FIRST_PAINT_MS = 500
FRAME_MS = 1000 / 60
LATE_MS = 50
"""A frame that took longer is one that a person notices."""
WHEEL_PX = 400
VIEW = {"width": 1280, "height": 900}

_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
_LISTED = """() => new Promise((done) => {
  const look = () => (document.querySelector('[role=row].line') ? done(performance.now()) : requestAnimationFrame(look));
  look();
})"""
_WHOLE = """(rows) => new Promise((done) => {
  const table = () => document.querySelector('[role=table]');
  const look = () => (Number(table()?.ariaRowCount) > rows ? done(performance.now()) : requestAnimationFrame(look));
  look();
})"""
_SCROLL = """(px) => new Promise((done) => {
  const frames = [];
  let drawn = 0, empty = 0, last = performance.now();
  const turn = (now) => {
    frames.push(now - last);
    last = now;
    drawn = Math.max(drawn, document.querySelectorAll('[role=row].line').length);
    const middle = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
    if (!middle?.closest('.line')) empty += 1;
    if (scrollY + innerHeight >= document.documentElement.scrollHeight - 1) done({ frames: frames.slice(1), drawn, empty });
    else {
      scrollBy(0, px);
      requestAnimationFrame(turn);
    }
  };
  requestAnimationFrame(turn);
})"""


def _times(values: list[float]) -> dict[str, float]:
    return {"median_ms": median(values, 1), "slowest_ms": round(max(values), 1)}


def _signed_in(browser: "Browser", server: Server) -> "BrowserContext":
    context = browser.new_context(base_url=server.url, viewport=VIEW, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto("/ui/")
    page.get_by_label("API key").fill(server.key.strip())
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Screens").wait_for()
    page.close()
    return context


def _open(page: "Page") -> dict[str, float]:
    """Milliseconds from the start of the navigation."""
    page.goto("/ui/jobs", wait_until="commit")
    listed, whole = page.evaluate(_LISTED), page.evaluate(_WHOLE, JOBS)
    return {"first paint": page.evaluate(_PAINT), "the first jobs": listed, "all jobs": whole}


def _loads(browser: "Browser", server: Server) -> dict[str, Any]:
    """With an empty and with a full cache."""
    empty: list[dict[str, float]] = []
    full: list[dict[str, float]] = []
    signed_in = _signed_in(browser, server)
    cookies: Any = signed_in.cookies()
    for _ in range(REPEATS):
        fresh = browser.new_context(base_url=server.url, viewport=VIEW, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
        fresh.add_cookies(cookies)
        empty.append(_open(fresh.new_page()))
        fresh.close()
        page = signed_in.new_page()
        full.append(_open(page))
        page.close()
    signed_in.close()
    both = (("empty", empty), ("full", full))
    return {f"{name}, {cache} cache": _times([load[name] for load in loads]) for cache, loads in both for name in loads[0]}


def _scrolled(browser: "Browser", server: Server) -> dict[str, Any]:
    context = _signed_in(browser, server)
    page = context.new_page()
    page.goto("/ui/jobs")
    page.evaluate(_WHOLE, JOBS)
    found = page.evaluate(_SCROLL, WHEEL_PX)
    context.close()
    frames: list[float] = found["frames"]
    return {
        "frames": len(frames),
        "median_ms": median(frames, 1),
        "p95_ms": round(statistics.quantiles(frames, n=20)[-1], 1),
        "slowest_ms": round(max(frames), 1),
        f"over {LATE_MS} ms, %": round(100 * sum(one > LATE_MS for one in frames) / len(frames), 1),
        "without a row in the middle": found["empty"],
        "rows drawn at once": found["drawn"],
    }


def main() -> None:
    """Measure and record."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("LUTHIER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

    def prepare(data_dir: Path) -> None:
        build(data_dir / "state.db", jobs=JOBS, events_per_job=1)

    with serving(prepare) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        results = {"size": {"jobs": JOBS}, **_loads(browser, server), f"scrolling, {WHEEL_PX} px a frame": _scrolled(browser, server)}
        browser.close()
    record("page", {**results, "target": {"first paint, ms": FIRST_PAINT_MS, "a frame, ms": round(FRAME_MS, 1)}})


if __name__ == "__main__":
    main()
