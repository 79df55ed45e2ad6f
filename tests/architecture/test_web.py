"""The dashboard: its types follow the code, its lock file names no host, and its built pages keep their bounds and the policy."""

import json
import re
from pathlib import Path

import pytest

from scripts import check_web, make_web_types

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
MAX_LINES = 400


def test_the_types_are_those_of_the_code() -> None:
    for path, text in make_web_types.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} lags: run `make docs`"


def test_the_lock_file_holds_no_addresses_and_only_pinned_versions() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))
    assert len(lock["packages"]) > 50
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []
    own = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    versions = {**own["dependencies"], **own["devDependencies"]}
    assert {name: v for name, v in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", v)} == {}
    assert set(own["dependencies"]) == {"uplot"}, "nothing else runs in the page"


def test_source_files_stay_small_and_draw_no_markup_of_others() -> None:
    made = set(make_web_types.files())
    sources = [p for p in (WEB / "src").rglob("*") if p.suffix in {".ts", ".svelte", ".css"} and p not in made]
    assert len(sources) > 40
    texts = {p.relative_to(WEB).as_posix(): p.read_text(encoding="utf-8") for p in sources}
    assert {name: n for name, text in texts.items() if (n := len(text.splitlines())) > MAX_LINES} == {}
    forbidden = re.compile(r"\{@html|\.innerHTML|\bstyle=\"|https?://(?!localhost|127\.0\.0\.1|www\.w3\.org)")
    assert {name: m.group(0) for name, text in texts.items() if (m := forbidden.search(text))} == {}


@pytest.fixture(scope="module")
def bundle() -> Path:
    if not check_web.BUNDLE.is_dir():
        pytest.skip("the dashboard is not built here")
    return check_web.BUNDLE


def test_the_built_pages_keep_their_bounds(bundle: Path) -> None:
    assert check_web.over_budget(bundle) == []


def test_the_built_page_runs_under_the_policy(bundle: Path) -> None:
    page = (bundle / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    assert re.findall(r'(?:src|href)="(?!/ui/assets/|data:)', page) == []


def test_the_measure_of_eager_scripts_follows_imports(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<script type="module" src="/ui/assets/a-1.js"></script>', encoding="utf-8")
    (tmp_path / "assets" / "a-1.js").write_text('import{x}from"./b-2.js";const y=()=>import("./c-3.js")', encoding="utf-8")
    (tmp_path / "assets" / "b-2.js").write_text("export const x=1", encoding="utf-8")
    (tmp_path / "assets" / "c-3.js").write_text("later", encoding="utf-8")
    assert sorted(p.name for p in check_web.eager_scripts(tmp_path)) == ["a-1.js", "b-2.js"]


def test_a_bundle_that_lags_is_named(tmp_path: Path) -> None:
    ours, fresh = tmp_path / "ours", tmp_path / "fresh"
    for folder, text in ((ours, "old"), (fresh, "new")):
        (folder / "assets").mkdir(parents=True)
        (folder / "index.html").write_text("same", encoding="utf-8")
        (folder / "assets" / "a.js").write_text(text, encoding="utf-8")
    (fresh / "twin.html").write_text("more", encoding="utf-8")
    assert check_web.differences(ours, fresh) == ["assets/a.js", "twin.html"]
