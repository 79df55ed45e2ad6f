"""Nothing in the project names one machine: no absolute home or work path, no package registry's host."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {".venv", ".git", "__pycache__", "build", "dist", "node_modules", "luthier-data", ".ruff_cache", ".hypothesis"}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".jsonl", ".cfg", ".ini", ".tsv", ".yml", ".yaml", ".sh", ".mako", ".svg", ""}
# Written with classes, so that this file does not find itself.
PATTERNS = {
    "a home or work directory": re.compile(r"(?<![\w.])/(?:[h]ome|[U]sers|[r]oot|[w]ork)/[\w.-]+"),
    "a local package folder": re.compile(r"/[o]pt/(?:wheels|pypi)"),
    "a package registry": re.compile(
        r"\b(?:[p]ypi\.(?:org|python\.org)|files\.[p]ythonhosted\.org|download\.[p]ytorch\.org|registry\.[n]pmjs\.org)"
    ),
}


def _files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [p for p in ROOT.rglob("*") if not SKIPPED & set(p.relative_to(ROOT).parts)]
    return [p for p in paths if p.is_file() and p.suffix in TEXT and p.stat().st_size < 5_000_000]


def test_no_file_names_this_machine() -> None:
    files = _files()
    assert len(files) > 50
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {what}: {m.group(0)}" for what, pattern in PATTERNS.items() for m in pattern.finditer(text)]
    assert found == []
