"""Blobs appear whole or not at all, and orphans go only when they are old."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from luthier.core.errors import StorageFull
from luthier.storage import blobs as module
from luthier.storage.blobs import BlobStore

HOUR = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def temporaries(store: BlobStore) -> list[Path]:
    return list(store.temporary_folder().iterdir())


def test_put_stores_under_the_hash(store: BlobStore) -> None:
    sha256, size = store.put(b"hello")
    assert (sha256, size) == (hashlib.sha256(b"hello").hexdigest(), 5)
    assert store.path(sha256).read_bytes() == b"hello"
    assert store.path(sha256).parent.name == sha256[:2]
    assert store.exists(sha256)
    assert not store.exists("0" * 64)


def test_writer_joins_its_pieces(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"a" * 100_000)
        writer.write(b"b")
        assert writer.commit() == (hashlib.sha256(b"a" * 100_000 + b"b").hexdigest(), 100_001)
    assert temporaries(store) == []


def test_empty_blob(store: BlobStore) -> None:
    sha256, size = store.put(b"")
    assert size == 0
    assert store.path(sha256).read_bytes() == b""


def test_leaving_without_commit_leaves_nothing(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(b"half")
    assert temporaries(store) == []
    assert not store.exists(hashlib.sha256(b"half").hexdigest())


def test_bytes_and_names_are_synced_in_order(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_fsync, real_replace, real_folder = os.fsync, Path.replace, module.sync_folder
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), real_fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), real_replace(self, to))[1])
    sha256 = hashlib.sha256(b"x").hexdigest()

    def folder(path: Path) -> None:
        steps.append(f"folder {path.name}")
        monkeypatch.setattr(os, "fsync", real_fsync)
        real_folder(path)

    monkeypatch.setattr(module, "sync_folder", folder)
    store.put(b"x")
    assert steps == ["fsync", "folder blobs", "rename", f"folder {sha256[:2]}"]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_hashes_make_paths(store: BlobStore, name: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        store.path(name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_and_nothing_stays(store: BlobStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(descriptor: int) -> None:
        raise OSError(code, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFull):
        store.put(b"bytes")
    assert temporaries(store) == []
    assert not store.exists(hashlib.sha256(b"bytes").hexdigest())


def test_other_disk_errors_pass_through(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="broken"):
        store.put(b"bytes")
    assert temporaries(store) == []


def test_collect_removes_only_old_orphans(store: BlobStore) -> None:
    kept, young, orphan = (store.put(data)[0] for data in (b"kept", b"young", b"orphan"))
    age(store.path(kept), 2 * HOUR)
    age(store.path(orphan), 2 * HOUR)
    left = store.temporary_folder() / "left-by-a-crash"
    left.write_bytes(b"half")
    age(left, 2 * HOUR)
    assert store.collect({kept}, HOUR) == 2
    assert [store.exists(sha256) for sha256 in (kept, young, orphan)] == [True, True, False]
    assert temporaries(store) == []


def test_bytes_stored_again_are_young(store: BlobStore) -> None:
    sha256, _ = store.put(b"same")
    age(store.path(sha256), 2 * HOUR)
    store.put(b"same")
    assert store.collect(set(), HOUR) == 0
    assert store.path(sha256).read_bytes() == b"same"


def test_collect_of_a_store_without_files(store: BlobStore) -> None:
    assert store.collect(set(), 0.0) == 0


def test_what_is_written_can_be_read_before_the_end(store: BlobStore) -> None:
    with store.writer() as writer:
        for _ in range(20):
            writer.write(memoryview(b"a" * 1_000_000))
        assert writer.path.stat().st_size == 20_000_000
        assert writer.commit() == (hashlib.sha256(b"a" * 20_000_000).hexdigest(), 20_000_000)
