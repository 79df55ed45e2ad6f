"""The reference pages say what the code says, word for word; every link between pages leads somewhere."""

import re
import textwrap
from pathlib import Path

import pytest

from scripts import make_docs

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?!https?://|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`(tests/[\w/-]+\.py)::(\w+)`")
SOURCE = re.compile(r"`(src/luthier/[\w/]+(?:\.py)?)`")


@pytest.mark.parametrize("page", sorted(make_docs.PAGES))
def test_reference_pages_match_the_code(page: str) -> None:
    assert (ROOT / page).read_text(encoding="utf-8") == make_docs.PAGES[page](), "run `make docs`"


def test_every_setting_is_explained() -> None:
    rows = [line for line in make_docs.settings_page().splitlines() if line.startswith("| `LUTHIER_")]
    assert len(rows) >= 13
    assert [line for line in rows if line.endswith("|  |")] == []


def test_every_route_and_command_is_explained() -> None:
    silent = [f"{method} {path}" for method, path, text in make_docs.route_table() if not text]
    assert silent == []
    page = make_docs.commands_page()
    assert "\n\n.\n" not in page
    assert [line for line in page.splitlines() if line.startswith("| `--") and line.endswith("|  |")] == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert len(pages) > 8
    assert broken == []


def test_make_targets_named_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        target
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"`make ([a-z-]+)[`\s]", page.read_text(encoding="utf-8"))
    }
    assert {"demo", "test", "check"} <= named
    assert named <= targets


def test_python_in_the_pages_is_python() -> None:
    blocks = [
        (page, block)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(blocks) >= 3
    for page, block in blocks:
        compile(textwrap.dedent(block), str(page), "exec")


def test_tests_and_files_named_in_the_pages_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {match for page in pages for match in TEST.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 40
    gone = {f"{file}::{name}" for file, name in named if not re.search(rf"^def {name}\b", _text(ROOT / file), re.MULTILINE)}
    assert gone == set()
    sources = {match for page in pages for match in SOURCE.findall(page.read_text(encoding="utf-8"))}
    assert sorted(path for path in sources if not (ROOT / path).exists()) == []


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def test_readme_shows_the_client_in_six_lines() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(block.strip().splitlines()) == 6
