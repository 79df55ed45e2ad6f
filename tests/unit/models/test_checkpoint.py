import errno
import json
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, StorageFull
from luthier.models.checkpoint import (
    MANIFEST_NAME,
    CorruptFolder,
    folder_bytes,
    is_temporary,
    manifest_sha256,
    publish_folder,
    verify_folder,
)


def _write(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"abc" * 100)
    (folder / "inner").mkdir()
    (folder / "inner" / "b.json").write_text("{}")


def _write_other(folder: Path) -> None:
    (folder / "new").write_text("n")


def test_a_published_folder_verifies_and_carries_its_meta(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "step-3"
    sha256 = publish_folder(final, _write, {"step": 3})
    manifest = verify_folder(final)
    assert manifest["meta"] == {"step": 3}
    assert set(manifest["files"]) == {"a.bin", "inner/b.json"}
    assert sha256 == manifest_sha256(final)
    assert folder_bytes(final) == 302 + (final / MANIFEST_NAME).stat().st_size
    assert [p.name for p in final.parent.iterdir()] == ["step-3"]


def test_the_same_content_gives_the_same_hash(tmp_path: Path) -> None:
    assert publish_folder(tmp_path / "a", _write, {"x": 1}) == publish_folder(tmp_path / "b", _write, {"x": 1})
    assert publish_folder(tmp_path / "c", _write, {"x": 2}) != manifest_sha256(tmp_path / "a")


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    publish_folder(tmp_path / "a", _write, {})
    publish_folder(tmp_path / "a", _write_other, {})
    assert set(verify_folder(tmp_path / "a")["files"]) == {"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_to_stay_is_replaced_only_when_it_is_damaged(tmp_path: Path) -> None:
    sha256 = publish_folder(tmp_path / "a", _write, {})
    assert publish_folder(tmp_path / "a", _write_other, {}, replace=False) == sha256
    assert set(verify_folder(tmp_path / "a")["files"]) == {"a.bin", "inner/b.json"}
    _tear(tmp_path / "a")
    assert publish_folder(tmp_path / "a", _write_other, {}, replace=False) == manifest_sha256(tmp_path / "a")
    assert set(verify_folder(tmp_path / "a")["files"]) == {"new"}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    publish_folder(tmp_path / "a", _write, {"n": 1})

    def fail(folder: Path) -> None:
        (folder / "half").write_text("h")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(StorageFull):
        publish_folder(tmp_path / "a", fail, {})
    assert verify_folder(tmp_path / "a")["meta"] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_leaves_is_known_as_temporary(tmp_path: Path) -> None:
    seen: list[Path] = []
    publish_folder(tmp_path / "a", seen.append, {})
    assert is_temporary(seen[0])
    assert not is_temporary(tmp_path / "a")
    assert seen[0].parent == tmp_path


def _tear(folder: Path) -> None:
    (folder / "a.bin").write_bytes((folder / "a.bin").read_bytes()[:-1])


def _flip(folder: Path) -> None:
    data = bytearray((folder / "a.bin").read_bytes())
    data[7] ^= 1
    (folder / "a.bin").write_bytes(data)


def _break_manifest(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(path.read_text()[:-5])


def _wrong_hash(folder: Path) -> None:
    path = folder / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["files"]["a.bin"]["sha256"] = "0" * 64
    path.write_text(json.dumps(manifest))


def _link(folder: Path) -> None:
    (folder / "a.bin").rename(folder.parent / "elsewhere")
    (folder / "a.bin").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    "damage",
    [
        _tear,
        _flip,
        _break_manifest,
        _wrong_hash,
        _link,
        lambda folder: (folder / MANIFEST_NAME).unlink(),
        lambda folder: (folder / MANIFEST_NAME).write_text("[]"),
        lambda folder: (folder / "a.bin").unlink(),
        lambda folder: (folder / "more").write_text("m"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, damage) -> None:
    publish_folder(tmp_path / "a", _write, {})
    damage(tmp_path / "a")
    with pytest.raises(CorruptFolder) as caught:
        verify_folder(tmp_path / "a")
    assert isinstance(caught.value, InvalidRequest)
    assert str(tmp_path) not in caught.value.message
