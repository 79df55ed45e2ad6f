"""Joining parts: flat memory, and nothing half-done when the process dies in between."""

import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.api.assembly import complete_upload
from luthier.api.deps import Services, build_services
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.ids import new_part_id, new_upload_id
from luthier.core.settings import Settings
from luthier.core.uploads import LIFETIME_SECONDS, PartRecord, UploadRecord, UploadStatus
from luthier.storage.database import migrate

ROWS = (b'{"a": 1}\n', b'{"b": 2}\n')


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    settings = Settings(data_dir=tmp_path)
    settings.api_key_file.write_text("sk-luthier-test")
    migrate(settings.state_database)
    services = build_services(settings, {})
    yield services
    services.database.close()


def pending(services: Services, *pieces: bytes, **changes: Any) -> tuple[str, list[str]]:
    """An upload with these parts; their bytes and rows are stored as the route stores them."""
    now = int(services.clock())
    values: dict[str, Any] = {
        "id": new_upload_id(),
        "filename": "rows.jsonl",
        "purpose": "fine-tune",
        "bytes": sum(map(len, pieces)),
        "mime_type": "text/jsonl",
        "created_at": now,
        "expires_at": now + LIFETIME_SECONDS,
    }
    upload = UploadRecord(**{**values, **changes})
    services.uploads.add(upload)
    ids = []
    for piece in pieces:
        part = PartRecord(id=new_part_id(), upload_id=upload.id, bytes=len(piece), created_at=now)
        with services.parts.writer(part.id) as writer:
            writer.write(piece)
            writer.keep()
        services.uploads.add_part(part, max_bytes=2**40)
        ids.append(part.id)
    return upload.id, ids


def test_joining_takes_flat_memory(services: Services) -> None:
    piece = b"x" * (8 * 1024 * 1024)
    upload_id, part_ids = pending(services, piece, piece, piece, purpose="vision")
    tracemalloc.start()
    try:
        upload = complete_upload(services, upload_id, part_ids, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert upload.status is UploadStatus.COMPLETED
    assert peak < 6 * 1024 * 1024


CRASH = """
import os, signal, sys
from pathlib import Path
from luthier.api.assembly import complete_upload
from luthier.api.deps import build_services
from luthier.core.settings import Settings
from luthier.storage.blobs import BlobWriter
from luthier.storage.parts import PartFiles
from luthier.storage.uploads import UploadStore
def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
owner, name = {"bytes": (BlobWriter, "commit"), "row": (UploadStore, "complete"), "parts": (PartFiles, "remove")}[sys.argv[2]]
setattr(owner, name, die)
complete_upload(build_services(Settings(data_dir=Path(sys.argv[1])), {}), sys.argv[3], sys.argv[4:], None)
"""


@pytest.mark.parametrize("before", ["bytes", "row", "parts"])
def test_a_kill_leaves_the_upload_or_its_file(services: Services, before: str) -> None:
    upload_id, part_ids = pending(services, *ROWS)
    arguments = [str(services.settings.data_dir), before, upload_id, *part_ids]
    assert subprocess.run([sys.executable, "-c", CRASH, *arguments], check=False).returncode == -signal.SIGKILL
    completed = before == "parts"
    assert services.uploads.load(upload_id).status is (UploadStatus.COMPLETED if completed else UploadStatus.PENDING)
    assert len(services.files.list().items) == completed
    assert all(services.parts.path(part_id).is_file() for part_id in part_ids)
    upload = complete_upload(services, upload_id, part_ids, None)
    (file,) = services.files.list().items
    assert upload.file_id == file.id
    assert services.blobs.path(file.sha256).read_bytes() == b"".join(ROWS)
    assert services.uploads.all_part_ids() == frozenset()


def interrupt(services: Services, monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """``act`` happens while the parts are being joined, just before the second is read."""
    real, calls = type(services.parts).read, []

    def read(self: Any, part_id: str) -> Iterator[bytes]:
        calls.append(part_id)
        if len(calls) == 2:
            act()
        return real(self, part_id)

    monkeypatch.setattr(type(services.parts), "read", read)


def test_the_slower_of_two_equal_completions_answers_the_same(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id, part_ids = pending(services, *ROWS)
    interrupt(services, monkeypatch, lambda: complete_upload(services, upload_id, part_ids, None))
    upload = complete_upload(services, upload_id, part_ids, None)
    assert [file.id for file in services.files.list().items] == [upload.file_id]


def test_a_cancel_meanwhile_wins(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id, part_ids = pending(services, *ROWS)
    interrupt(services, monkeypatch, lambda: services.parts.remove(services.uploads.cancel(upload_id)[1]))
    with pytest.raises(InvalidRequest, match="is cancelled"):
        complete_upload(services, upload_id, part_ids, None)
    assert services.files.list().items == ()


def test_lost_bytes_are_a_fault_of_ours(services: Services) -> None:
    upload_id, part_ids = pending(services, *ROWS)
    services.parts.remove(part_ids[:1])
    with pytest.raises(LuthierError, match="missing") as error:
        complete_upload(services, upload_id, part_ids, None)
    assert type(error.value) is LuthierError
    assert services.files.list().items == ()
