"""Uploading large JSONL files, beside copying and syncing the same bytes on the same disk.

Run: ``python -m benchmarks.bench_upload``; ``--megabytes 256`` takes other sizes. A real server stores, hashes, checks and syncs; each
upload is one request, by the official client (``files.create``) and by a plain HTTP client, which builds the form by hand. The largest
file goes up once more in parts (``uploads.upload_file_chunked``), where each byte is written twice. The file is made from a fixed seed
and lies in the page cache for all ways. The server's largest file is raised above its default of 512 MB. Rows are as long as those of
``bench_data_check.py``. Processor seconds of client and server are recorded beside the clock's: a busy neighbour shows.

Bound: 150 MB/s, or 70 % of the rate of copying and syncing, whichever is less.
"""

import argparse
import contextlib
import http.client
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil

from benchmarks.measured import Server, median, record, serving, spread

SIZES = (256, 1000)
REPEATS = 3
MEGABYTE = 1e6
BOUND_RATE = 150.0
BOUND_SHARE = 0.7
DISTINCT_ROWS = 2000
PIECE = 1 << 20
_TEXT = "the answer to this question depends on what you mean by it: a short reply, or café, naïve and “quoted” words; see line 7"
_WORDS = _TEXT.split()


def make_file(path: Path, megabytes: float) -> None:
    """Chats of about 900 bytes; a file of one size always has the same bytes."""
    draw = random.Random(20261126)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(_WORDS, k=draw.randint(low, high)))

    rows: list[bytes] = []
    for _ in range(DISTINCT_ROWS):
        messages: list[dict[str, Any]] = [{"role": "system", "content": text(11, 17)}]
        for _ in range(draw.choice((2, 2, 3))):
            messages += [{"role": "user", "content": text(11, 23)}, {"role": "assistant", "content": text(23, 39)}]
        rows.append(orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE))
    size = 0
    with path.open("wb") as file:
        while size < megabytes * MEGABYTE:
            size += file.write(rows[draw.randrange(DISTINCT_ROWS)])


def copy_and_sync(source: Path) -> None:
    """What an upload cannot avoid: the bytes written to the same disk, and synced."""
    target = source.with_suffix(".copy")
    with source.open("rb") as read, target.open("wb") as write:
        while piece := read.read(PIECE):
            write.write(piece)
        write.flush()
        os.fsync(write.fileno())
    target.unlink()


def used_by(server: Server) -> float:
    """Processor seconds of the server's processes so far, of those that ended too."""
    processes = [psutil.Process(server.process.pid)]
    processes += processes[0].children(recursive=True)
    return sum(sum(process.cpu_times()[:4]) for process in processes)


def peak_mb(server: Server) -> float:
    """Most memory that any process of the server has had."""
    pids = [server.process.pid, *(child.pid for child in psutil.Process(server.process.pid).children(recursive=True))]
    return max(_peak_kb(pid) for pid in pids) / 1000


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def in_one(server: Server, path: Path) -> str:
    """``POST /files``; the id."""
    with path.open("rb") as content:
        return server.client().files.create(file=(path.name, content), purpose="fine-tune").id


def by_hand(server: Server, path: Path) -> str:
    """``POST /files`` by the standard library's client, which only copies bytes to the socket; the id."""
    boundary = "luthier-bench"
    part = f"--{boundary}\r\nContent-Disposition: form-data; name="
    head = f'{part}"purpose"\r\n\r\nfine-tune\r\n{part}"file"; filename="{path.name}"\r\n\r\n'.encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=600, blocksize=PIECE)
    with contextlib.closing(connection), path.open("rb") as content:
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Authorization", f"Bearer {server.key}")
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(head) + path.stat().st_size + len(tail)))
        connection.endheaders()
        connection.send(head)
        connection.send(content)
        connection.send(tail)
        return orjson.loads(connection.getresponse().read())["id"]


def in_parts(server: Server, path: Path) -> str:
    """``POST /uploads`` and its parts; the id of the file."""
    file = server.client().uploads.upload_file_chunked(file=path, mime_type="application/jsonl", purpose="fine-tune").file
    assert file is not None
    return file.id


def measure(server: Server, path: Path, send: Callable[[Server, Path], str]) -> dict[str, Any]:
    """Copy and upload in turn, several times; the stored file is looked at and deleted."""
    client, size = server.client(), path.stat().st_size / MEGABYTE
    copied: list[float] = []
    sent: list[float] = []
    used: list[tuple[float, float]] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        copy_and_sync(path)
        copied.append(time.perf_counter() - started)
        before, mine, started = used_by(server), time.process_time(), time.perf_counter()
        file_id = send(server, path)
        sent.append(time.perf_counter() - started)
        used.append((used_by(server) - before, time.process_time() - mine))
        if client.files.retrieve(file_id).bytes != path.stat().st_size:
            raise SystemExit(f"{file_id} does not have the bytes that were sent")
        client.files.delete(file_id)
    rate, copy_rate = median([size / s for s in sent], 1), median([size / s for s in copied], 1)
    bound = min(BOUND_RATE, BOUND_SHARE * copy_rate)
    return {
        "megabytes": round(size, 1),
        "seconds": median(sent),
        "spread": spread(sent),
        "mb_per_second": rate,
        "copy_and_sync_mb_per_second": copy_rate,
        "copy_spread": spread(copied),
        "server_processor_seconds": median([server_side for server_side, _ in used]),
        "client_processor_seconds": median([client_side for _, client_side in used]),
        "bound_mb_per_second": round(bound, 1),
        "holds": rate >= bound,
    }


def main() -> None:
    """Measure and record; other sizes than those of the baseline are only printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=float, nargs="+", default=list(SIZES))
    sizes: list[float] = parser.parse_args().megabytes
    load = os.getloadavg()[0]
    os.environ["LUTHIER_MAX_FILE_BYTES"] = str(2**32)
    results: dict[str, Any] = {}
    with serving() as server:
        path = server.data_dir.parent / "chat.jsonl"
        for size in sizes:
            make_file(path, size)
            results[f"{size:g} MB by the official client"] = measure(server, path, in_one)
            results[f"{size:g} MB by a plain client"] = measure(server, path, by_hand)
        results[f"{sizes[-1]:g} MB in parts"] = measure(server, path, in_parts)
        results["peak memory of a server process"] = {"mb": round(peak_mb(server))}
    results["load average at the start"] = round(load, 2)
    if tuple(sizes) == SIZES:
        record("upload", results)
    else:
        print(orjson.dumps(results, option=orjson.OPT_INDENT_2).decode())


if __name__ == "__main__":
    main()
