"""Bytes of parts: durable before they count, gone when nobody names them."""

import errno
import os
from pathlib import Path

import pytest

from luthier.core.errors import StorageFull
from luthier.core.ids import new_part_id
from luthier.storage import parts as module
from luthier.storage.parts import PartFiles

HOUR = 3600.0


@pytest.fixture
def parts(tmp_path: Path) -> PartFiles:
    return PartFiles(tmp_path / "uploads")


def put(parts: PartFiles, data: bytes) -> str:
    part_id = new_part_id()
    with parts.writer(part_id) as writer:
        writer.write(data)
        writer.sync()
        writer.keep()
    return part_id


def test_a_part_comes_back_in_pieces_of_bounded_size(parts: PartFiles) -> None:
    data = os.urandom(2_500_000)
    pieces = list(parts.read(put(parts, data)))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 1024 * 1024


def test_leaving_without_keep_leaves_nothing(parts: PartFiles) -> None:
    part_id = new_part_id()
    with parts.writer(part_id) as writer:
        writer.write(b"half")
        writer.sync()
    assert not parts.path(part_id).exists()


def test_bytes_are_synced_before_the_name(parts: PartFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append("bytes"))
    monkeypatch.setattr(module, "sync_folder", lambda folder: steps.append(f"folder {folder.name}"))
    with parts.writer(new_part_id()) as writer:
        steps.clear()
        writer.write(b"x")
        writer.sync()
    assert steps == ["bytes", "folder uploads"]


def test_a_full_disk_is_told_and_nothing_stays(parts: PartFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    part_id = new_part_id()
    with parts.writer(part_id) as writer:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageFull):
            writer.sync()
    assert not parts.path(part_id).exists()


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "part_" + "G" * 32, "part_" + "a" * 31, "part_" + "a" * 32 + "\n"])
def test_only_ids_make_paths(parts: PartFiles, name: str) -> None:
    with pytest.raises(ValueError, match="id of a part"):
        parts.path(name)


def test_collect_removes_only_old_parts_that_nobody_names(parts: PartFiles) -> None:
    assert parts.collect(set(), 0.0) == 0
    kept, young, left = (put(parts, data) for data in (b"kept", b"young", b"left"))
    for part_id in (kept, left):
        then = parts.path(part_id).stat().st_mtime - 2 * HOUR
        os.utime(parts.path(part_id), (then, then))
    assert parts.collect({kept}, HOUR) == 1
    assert [parts.path(p).exists() for p in (kept, young, left)] == [True, True, False]


def test_remove_does_not_mind_what_is_gone(parts: PartFiles) -> None:
    part_id = put(parts, b"x")
    parts.remove([part_id, part_id])
    assert not parts.path(part_id).exists()
