"""New files: all of them or none, and never in place of another one."""

import os
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.new_file import new_files


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_both_get_their_names_at_the_end(tmp_path):
    with new_files(tmp_path / "a", tmp_path / "b") as (one, two):
        one.write(b"1")
        two.write(b"2")
        assert not (tmp_path / "a").exists()
    assert [(tmp_path / name).read_bytes() for name in _names(tmp_path)] == [b"1", b"2"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("which", ["a", "b"])
def test_none_is_left_when_naming_them_is_interrupted(tmp_path, monkeypatch, links, which):
    link, rename = os.link, Path.rename

    def interrupted(path):
        if Path(path).name == which:
            raise KeyboardInterrupt

    def by_link(half, path):
        if not links:
            raise OSError("a disk without links")
        interrupted(path)
        link(half, path)

    def by_rename(half, path):
        interrupted(path)
        return rename(half, path)

    monkeypatch.setattr(os, "link", by_link)
    monkeypatch.setattr(Path, "rename", by_rename)
    with pytest.raises(KeyboardInterrupt), new_files(tmp_path / "a", tmp_path / "b"):
        pass
    assert _names(tmp_path) == []


def test_a_name_that_was_taken_meanwhile_stays_the_others(tmp_path):
    with pytest.raises(InvalidRequest, match="exists already"), new_files(tmp_path / "a", tmp_path / "b"):
        (tmp_path / "b").write_text("mine")
    assert _names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "mine"
