"""What is answered of a batch so far: two files that only grow, read again after a restart, made into stored files at the end.

What it does: appends whole lines, knows which requests have one, drops a line that a crash cut off. What it does not: run requests.
Called by ``runner.py``. Each request has its line in one of the two files, and only there: that is what "answered" means, so that a crash
between answer and line runs the request again, and one after the line does not.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from luthier.core.batches import OUTPUT_PURPOSE, BatchRecord, Usage
from luthier.core.ids import new_batch_request_id, new_file_id
from luthier.core.jobs import FileRecord
from luthier.storage.blobs import BlobStore

_COPY_BYTES = 1024 * 1024
_EXPIRED = {"code": "batch_expired", "message": "This request could not be executed before the completion window expired."}


def usage_of(body: Mapping[str, Any]) -> Usage:
    """The tokens that an answer tells, by either pair of names."""
    usage = body.get("usage") or {}
    return Usage(
        input_tokens=usage.get("prompt_tokens", usage.get("input_tokens", 0)),
        output_tokens=usage.get("completion_tokens", usage.get("output_tokens", 0)),
    )


class Outcomes:
    """The two files of one batch, open for appending."""

    def __init__(self, folder: Path) -> None:
        """Open them, or go on with those that are there. Reads them whole: call it in a thread."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.answered: set[str] = set()
        """Ids of the requests that have their line."""
        self.usage = Usage()
        self.num_completed = self._resume(self._path("output"))
        self.num_failed = self._resume(self._path("error"))
        self._files = {name: self._path(name).open("ab", buffering=0) for name in ("output", "error")}

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    def _resume(self, path: Path) -> int:
        if not path.exists():
            return 0
        count = whole = 0
        with path.open("r+b") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row = orjson.loads(line)
                whole += len(line)
                count += 1
                self.answered.add(row["custom_id"])
                self.usage += usage_of((row["response"] or {}).get("body") or {})
            file.truncate(whole)
        return count

    def add(self, custom_id: str, status: int, request_id: str, body: Mapping[str, Any]) -> None:
        """Note an answer: one of status 200 to the output, any other to the errors.

        Raises:
            OSError: the disk is full; the request counts as not answered.
        """
        response = {"status_code": status, "request_id": request_id, "body": body}
        self._append("output" if status == 200 else "error", custom_id, response, None)
        self.usage += usage_of(body)

    def expire(self, custom_id: str) -> None:
        """Note that a request's time is over. Raises OSError as ``add`` does."""
        self._append("error", custom_id, None, _EXPIRED)

    def _append(self, name: str, custom_id: str, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> None:
        row = {"id": new_batch_request_id(), "custom_id": custom_id, "response": response, "error": error}
        file, line = self._files[name], orjson.dumps(row) + b"\n"
        end = file.seek(0, 2)
        try:
            left = line
            while left:
                left = left[file.write(left) :]
        except OSError:
            # Half a line would join with the next one.
            file.truncate(end)
            raise
        self.answered.add(custom_id)
        if name == "output":
            self.num_completed += 1
        else:
            self.num_failed += 1

    def close(self) -> None:
        """Close both files; they stay."""
        for file in self._files.values():
            file.close()

    def counts(self) -> dict[str, int]:
        """The columns of a batch's row that tell how far it is."""
        return {
            "num_completed": self.num_completed,
            "num_failed": self.num_failed,
            "input_tokens": self.usage.input_tokens,
            "output_tokens": self.usage.output_tokens,
        }

    def stored(self, blobs: BlobStore, record: BatchRecord, now: int) -> dict[str, FileRecord]:
        """Make durable blobs of the files that have lines; returns their rows by ``output_file_id`` and ``error_file_id``.

        Raises:
            StorageFull: the disk is full.
        """
        made = {}
        for name in ("output", "error"):
            path = self._path(name)
            if not path.stat().st_size:
                continue
            with blobs.writer() as writer, path.open("rb") as file:
                while piece := file.read(_COPY_BYTES):
                    writer.write(piece)
                sha256, size = writer.commit()
            made[f"{name}_file_id"] = FileRecord(
                id=new_file_id(),
                filename=f"{record.id}_{name}.jsonl",
                purpose=OUTPUT_PURPOSE,
                bytes=size,
                sha256=sha256,
                created_at=now,
                expires_at=now + record.file_seconds,
            )
        return made


def remove_outcomes(folder: Path) -> None:
    """Remove a batch's folder; one that is gone already is no fault."""
    shutil.rmtree(folder, ignore_errors=True)
