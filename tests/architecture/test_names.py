"""A module is named after what it holds."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {"util", "utils", "helper", "helpers", "common", "misc", "tools", "stuff", "base"}


def test_no_module_is_named_after_nothing() -> None:
    named = [
        p.relative_to(ROOT).as_posix()
        for folder in ("src", "tests", "benchmarks", "scripts", "examples", "pretraining")
        for p in (ROOT / folder).rglob("*")
        if (p.suffix == ".py" or p.is_dir()) and p.stem in FORBIDDEN and "builtin" not in p.parts
    ]
    assert named == []


def test_every_module_of_the_package_says_what_it_does() -> None:
    import ast

    silent = [
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "src").rglob("*.py")
        if "versions" not in p.parts and not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert silent == []
