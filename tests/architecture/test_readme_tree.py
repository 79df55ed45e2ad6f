"""README's annotated tree is the tree on disk, each file with what it says of itself."""

from pathlib import Path

from scripts import make_docs

FOLDERS_WITHOUT_WORDS = ("migrations/", "versions/")  # Alembic's, no packages
ROOT = Path(__file__).resolve().parents[2]


def test_readme_shows_every_module_with_its_first_sentence() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == make_docs.readme_with_tree(readme), "run `make docs`"


def test_no_line_of_the_tree_is_without_words() -> None:
    lines = make_docs.readme_tree().splitlines()[2:-1]
    assert len(lines) > 10
    assert [line for line in lines if len(line.split()) < 2 and line.strip() not in FOLDERS_WITHOUT_WORDS] == []
