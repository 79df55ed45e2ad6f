"""A small Hugging Face hub on this machine: the few endpoints that adding a base model asks, over real HTTP.

What it does: model facts with file sizes, files with ranges (large ones by a redirect to another host, as the hub's storage is), gated and
private models, connections that break after some bytes. What it does not: datasets, uploads, Xet. Set ``HF_ENDPOINT`` to ``url``.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

import pytest

TOKEN = "hf_secretsecretsecret"


@dataclass
class HubRepo:
    """One model repository."""

    files: dict[str, bytes]
    commit: str = "c0ffee" + "0" * 34
    branches: tuple[str, ...] = ("main",)
    card: dict[str, Any] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: bool = False
    private: bool = False

    @classmethod
    def of_folder(cls, folder: Path, **options: Any) -> "HubRepo":
        """A repository with the files of a folder."""
        return cls(files={p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}, **options)


@dataclass
class FakeHub:
    """The server's state; what tests change and read."""

    repos: dict[str, HubRepo]
    url: str = ""
    storage: str = ""
    """Its other name, as which it is another host."""
    break_after: int | None = None
    """Once: the connection of the next large file breaks after so many bytes."""
    stall: threading.Event | None = None
    """The connection then neither breaks nor goes on until this is set."""
    status: int | None = None
    """Every answer has this status."""
    damage: bool = False
    """Large files arrive with another byte."""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """(path, range, authorization) of each request for a file."""


def point_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Do in this process what ``HF_ENDPOINT`` does in a fresh one: the library reads it when it is imported."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def fake_hub(repos: dict[str, HubRepo]) -> Iterator[FakeHub]:
    """A running hub."""
    hub = FakeHub(repos)

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url, hub.storage = (f"http://{name}:{server.server_port}" for name in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        hub, path = self.state, unquote(urlparse(self.path).path)
        if hub.status is not None:
            return self._end(hub.status, {}, b"{}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            return self._facts("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        if parts[0] == "storage":
            return self._storage(parts[1])
        return self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def _allowed(self, name: str) -> HubRepo | None:
        repo, said = self.state.repos.get(name), self.headers.get("Authorization")
        if said is not None and said != f"Bearer {TOKEN}":
            self._end(401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b"{}")
        elif repo is None or (repo.private and said is None):
            self._end(404 if said else 401, {"X-Error-Code": "RepoNotFound"}, b"{}")
        else:
            return repo
        return None

    def _facts(self, name: str, revision: str) -> None:
        repo = self._allowed(name)
        if repo is None:
            return None
        if revision not in (*repo.branches, repo.commit):
            return self._end(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        blobs = "blobs" in parse_qs(urlparse(self.path).query)
        siblings: list[dict[str, Any]] = []
        for file, content in repo.files.items():
            entry: dict[str, Any] = {"rfilename": file}
            if blobs:
                entry |= {"size": len(content), "blobId": "0" * 40}
                if file.endswith(".safetensors"):
                    entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            siblings.append(entry)
        facts = {"id": name, "modelId": name, "sha": repo.commit, "private": repo.private, "gated": "auto" if repo.gated else False}
        body = facts | {"cardData": repo.card, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0}
        return self._end(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _file(self, name: str, revision: str, file: str) -> None:
        self.state.requests.append((f"{name}/{file}", self.headers.get("Range"), self.headers.get("Authorization")))
        repo = self._allowed(name)
        if repo is None:
            return None
        if repo.gated and self.headers.get("Authorization") is None:
            return self._end(403, {"X-Error-Code": "GatedRepo"}, b"{}")
        if revision != repo.commit or file not in repo.files:
            return self._end(404, {"X-Error-Code": "EntryNotFound"}, b"{}")
        if file.endswith(".safetensors"):
            key = hashlib.sha256(repo.files[file]).hexdigest()
            return self._end(302, {"Location": f"{self.state.storage}/storage/{key}"}, b"")
        return self._send(repo.files[file])

    def _storage(self, key: str) -> None:
        self.state.requests.append((f"storage/{key[:8]}", self.headers.get("Range"), self.headers.get("Authorization")))
        contents = {hashlib.sha256(c).hexdigest(): c for repo in self.state.repos.values() for c in repo.files.values()}
        content = contents[key]
        if self.state.damage:
            content = bytes([content[0] ^ 1]) + content[1:]
        self._send(content, breaking=True)

    def _send(self, content: bytes, *, breaking: bool = False) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if breaking and self.state.break_after is not None:
            end, self.state.break_after = start + self.state.break_after, None
            self.wfile.write(content[start:end])
            self.wfile.flush()
            if self.state.stall is not None:
                self.state.stall.wait(60)
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content[start:])

    def _end(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
