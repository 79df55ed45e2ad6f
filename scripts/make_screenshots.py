"""Pictures of every screen of the dashboard at three widths, of a real server with a real demo job: ``docs/images/SCREEN-WIDTH.png``; some
also in dark colours, in high contrast and on a 4K screen, and of jobs that are not like the demo: rows from right to left, a failure.

What it does: starts a server over a new folder (or uses one that runs), runs the jobs there, traces a prompt, asks two models, takes
the pictures, and reduces their colours to a palette, so that all of them stay small. What it does not: judge them: look at each. Run by
hand after a change of the dashboard: ``python -m scripts.make_screenshots``; needs Chromium, Playwright and Pillow.
"""

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SIZES = {360: 800, 1280: 900, 2560: 1440}
"""Width and height of the window, CSS pixels."""
LARGE = {3840: 2160}
LONGEST = {360: 2000, 1280: 1800, 2560: 1440, 3840: 2160}
"""A longer page is cut at this height."""
THEMES = {"light": "Light", "dark": "Dark", "contrast": "High contrast"}
"""As a file is named, and as the page calls it."""
MORE = (
    ("jobs", 3840, "light"),
    ("job-story", 3840, "light"),
    ("job-training", 3840, "light"),
    ("job-prediction", 3840, "light"),
    ("jobs", 1280, "dark"),
    ("job-training", 1280, "dark"),
    ("job-prediction", 1280, "dark"),
    ("job-story", 1280, "contrast"),
    ("job-training", 1280, "contrast"),
    ("rtl-data", 1280, "light"),
    ("rtl-compare", 360, "light"),
    ("failed-story", 1280, "light"),
)
"""(screen, width, theme) of the other pictures: ``SCREEN-THEME-WIDTH.png``, without the theme where it is the light one."""
ODD = {"arabic-hebrew": "supervised", "not-for-dpo": "dpo"}
"""Suffix -> method of the jobs that are not like the demo."""
RIGHT_TO_LEFT = (
    ("ترجم إلى الفرنسية: صباح الخير", "Bonjour"),
    ("ما هي عاصمة مصر؟", "القاهرة هي عاصمة جمهورية مصر العربية."),
    ("كيف حالك اليوم؟", "أنا بخير، شكراً لك (thank you)!"),
    ("תרגם לצרפתית: תודה", "Merci"),
    ("מה שלומך?", "אני בסדר גמור, תודה רבה, 100%."),
)
COLOURS = 56
ALIKE = 9
"""Colours that differ by less in sum over red, green and blue count as one."""
BYTES = 3_600_000
"""Of all pictures together."""
WAIT_MS = 120_000
DEMO_SECONDS = 900.0
VIEWS = ("story", "data", "training", "examples", "prediction", "compare", "quiz", "code", "events")
PROMPT = "Translate to French: Good morning"


def screens(job: str, file: str, base: str, tuned: str) -> dict[str, str]:
    """Name of the picture -> path of the page."""
    views = {f"job-{view}": f"/ui/jobs/{job}" + ("" if view == "story" else f"/{view}") for view in VIEWS}
    return {
        "jobs": "/ui/jobs",
        **views,
        "new": "/ui/new",
        "data": "/ui/data",
        "dataset": f"/ui/data/{file}",
        "playground": f"/ui/playground?a={base}&b={tuned}",
        "models": "/ui/models",
        "system": "/ui/system",
    }


def _trace(page: "Page") -> None:
    page.get_by_label("Prompt", exact=True).fill(PROMPT)
    page.get_by_role("button", name="Trace it").click()
    page.get_by_text("Traced in").wait_for(timeout=WAIT_MS)


def _ask(page: "Page") -> None:
    page.get_by_label("Message").fill(PROMPT)
    page.get_by_role("button", name="Ask both").click()
    page.get_by_role("button", name="Token probabilities").nth(1).wait_for(timeout=WAIT_MS)


def _row_of_file(page: "Page") -> None:
    page.get_by_label("Tokens of row 1", exact=True).wait_for(timeout=WAIT_MS)


def _row_of_job(page: "Page") -> None:
    page.get_by_label("Tokens of line 1", exact=True).wait_for(timeout=WAIT_MS)


DEEDS: dict[str, Callable[["Page"], None]] = {
    "job-prediction": _trace,
    "playground": _ask,
    "dataset": _row_of_file,
    "job-data": _row_of_job,
    "rtl-data": _row_of_job,
}
"""What is done, or waited for, on a page before its picture is taken."""


def smaller(picture: bytes) -> bytes:
    """The same PNG in ``COLOURS`` colours: the most frequent ones that differ; every other pixel gets the nearest of them."""
    from PIL import Image

    image = Image.open(io.BytesIO(picture)).convert("RGB")
    found: list[Any] = image.getcolors(image.width * image.height) or []
    counted = sorted(found, key=lambda pair: pair[0], reverse=True)
    chosen: list[Any] = []
    for _, colour in counted:
        if len(chosen) < COLOURS and all(sum(abs(x - y) for x, y in zip(colour, one, strict=True)) >= ALIKE for one in chosen):
            chosen.append(colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in chosen for part in colour])
    image = image.quantize(palette=palette, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def take(page: "Page", width: int) -> bytes:
    """The page from its top, as long as it is, or cut; PNG."""
    height = min(LONGEST[width], max((SIZES | LARGE)[width], page.evaluate("() => document.documentElement.scrollHeight")))
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(400)
    return page.screenshot(animations="disabled")


def sideways(page: "Page") -> int:
    """By how many pixels the page is wider than its window; anything but 0 is a fault."""
    return page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")


def _suffix(job: Any) -> str | None:
    return job.to_dict().get("user_provided_suffix")


def finished_job(server: ServerProcess) -> tuple[str, str, str, str]:
    """Id, training file, base and model of a job that succeeded: the newest, or the demo, run now."""
    client = server.client(max_retries=0)
    done = [job for job in client.fine_tuning.jobs.list() if job.status == "succeeded" and _suffix(job) not in ODD]
    if not done:
        job_id = client.post("/luthier/demo", cast_to=dict)["id"]  # type: ignore[arg-type]
        done = [server.wait_for_job(job_id, DEMO_SECONDS)]
    job = done[0]
    assert job.fine_tuned_model is not None, job.error
    return job.id, job.training_file, "luthier-mini", job.fine_tuned_model


def odd_jobs(server: ServerProcess) -> dict[str, str]:
    """Paths of jobs that are not like the demo, run now or before."""
    client = server.client(max_retries=0)
    before = {_suffix(job): job.id for job in client.fine_tuning.jobs.list()}
    rows = [{"messages": [{"role": "user", "content": p}, {"role": "assistant", "content": c}]} for p, c in RIGHT_TO_LEFT]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    found: dict[str, str] = {}
    for suffix, method in ODD.items():
        if suffix not in before:
            files = [client.files.create(file=(f"{name}-שלום.jsonl", text * 4), purpose="fine-tune").id for name in ("train", "valid")]
            wanted: Any = {"type": method, method: {"hyperparameters": {"n_epochs": 2}}}
            job = client.fine_tuning.jobs.create(
                model="luthier-mini", training_file=files[0], validation_file=files[1], suffix=suffix, seed=1, method=wanted
            )
            before[suffix] = server.wait_for_job(job.id).id
        found[suffix] = f"/ui/jobs/{before[suffix]}"
    rtl = found["arabic-hebrew"]
    return {"rtl-data": f"{rtl}/data", "rtl-compare": f"{rtl}/compare", "failed-story": found["not-for-dpo"]}


def shots(theme: str, names: list[str]) -> list[tuple[str, int, str]]:
    """(screen, width, theme) of all pictures; those beyond the three widths belong to the light set."""
    usual = [(name, width, theme) for width in SIZES for name in names]
    return [*usual, *(MORE if theme == "light" else ())]


def pictures(browser: "Browser", server: ServerProcess, only: list[str], theme: str) -> Iterator[tuple[str, bytes]]:
    """(file name, PNG) of each screen at each width, and of ``MORE``."""
    wanted = screens(*finished_job(server))
    names = list(wanted)
    if theme == "light":
        wanted |= odd_jobs(server)
    context = browser.new_context(base_url=server.url, reduced_motion="reduce")
    page = context.new_page()
    page.goto("/ui/")
    page.get_by_label("API key").fill(server.key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Screens").wait_for()
    for name, width, colours in shots(theme, names):
        if only and name not in only:
            continue
        page.set_viewport_size({"width": width, "height": (SIZES | LARGE)[width]})
        page.goto(wanted[name])
        page.locator("h1, h2").first.wait_for()
        page.get_by_label("Colours").select_option(THEMES[colours])
        page.wait_for_timeout(1200)
        if name in DEEDS:
            DEEDS[name](page)
        if over := sideways(page):
            print(f"{name} at {width}: {over} px wider than the window", file=sys.stderr)
        yield f"{name}-{width}.png" if colours == theme else f"{name}-{colours}-{width}.png", take(page, width)
    context.close()


@contextmanager
def running(data_dir: Path | None) -> Iterator[ServerProcess]:
    """The server that runs over that folder, or a new one over a new folder."""
    if data_dir is not None:
        yield ServerProcess(data_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder)).start()
        try:
            yield server
        finally:
            server.stop()


def main() -> int:
    """Write the pictures; 1 when they are too large together."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Pictures of every screen of the dashboard")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--data-dir", type=Path, help="data directory of a server that runs already")
    parser.add_argument("--theme", choices=tuple(THEMES), default="light", help="another one for looking at all screens (with --out)")
    parser.add_argument("only", nargs="*", help="names of screens; none: all")
    args = parser.parse_args()
    path = os.environ.get("LUTHIER_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    args.out.mkdir(parents=True, exist_ok=True)
    with running(args.data_dir) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        for name, picture in pictures(browser, server, args.only, args.theme):
            (args.out / name).write_bytes(smaller(picture))
        browser.close()
    total = sum(file.stat().st_size for file in args.out.glob("*.png"))
    print(f"{args.out}: {total:,} bytes in all")
    return int(total > BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
