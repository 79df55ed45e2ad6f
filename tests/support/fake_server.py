"""A few routes of the API in plain ``http.server``: enough for the commands' own tests, which need no model.

What it does: files, one job with a ready-made trace, chat answers from a function, rendering. What it does not: check keys or
shapes; the contract tests do that on the real door.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from luthier.trace.events import TraceEvent, event_to_dict
from tests.support.sample_trace import sample_trace

Answer = Callable[[str, str], str]
"""Model and last message's content -> the answer."""


class FakeApi:
    """What the fake knows and what it was asked."""

    def __init__(self, events: Sequence[TraceEvent], answer: Answer, *, status: str = "succeeded", tuned: str | None = None) -> None:
        self.events = [event_to_dict(e) for e in events]
        self.answer = answer
        self.status, self.tuned = status, tuned
        self.page_size = 5
        self.requests: list[tuple[str, str, Any]] = []

    def job(self) -> dict[str, Any]:
        """The job object."""
        failed = self.status == "failed"
        return {
            "id": "ftjob-abc",
            "object": "fine_tuning.job",
            "created_at": 1_700_000_000,
            "finished_at": 1_700_000_060,
            "model": "gpt-4o-mini-2024-07-18",
            "fine_tuned_model": self.tuned,
            "organization_id": "org-luthier",
            "status": self.status,
            "hyperparameters": {"n_epochs": 5, "batch_size": "auto", "learning_rate_multiplier": "auto"},
            "training_file": "file-1",
            "validation_file": "file-2",
            "result_files": [],
            "trained_tokens": None,
            "error": {"code": "x", "message": "it broke", "param": None} if failed else None,
            "seed": 1,
            "luthier": {"base": "luthier-mini"},
        }

    def reply(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request."""
        self.requests.append((method, path, body))
        if path == "/readyz":
            return 200, {"status": "ready"}
        if path == "/v1/files":
            return 200, {
                "id": "file-1",
                "object": "file",
                "bytes": 1,
                "created_at": 1,
                "filename": "x",
                "purpose": "fine-tune",
                "status": "processed",
            }
        if path in ("/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/ftjob-abc"):
            return 200, self.job()
        if path == "/v1/fine_tuning/jobs/ftjob-abc/checkpoints":
            return 200, {"object": "list", "data": [], "has_more": False}
        if path == "/v1/luthier/jobs/ftjob-abc/trace":
            after = int(query.get("after", ["0"])[0])
            rest = [e for e in self.events if e["id"] > after]
            return 200, {"object": "list", "data": rest[: self.page_size], "has_more": len(rest) > self.page_size}
        if path == "/v1/luthier/jobs/ftjob-abc/row_losses":
            row = {"object": "luthier.row_loss", "line": 17, "tokens": 5, "loss": 2.5, "first_loss": 3.25}
            return 200, {"object": "list", "data": [row], "has_more": True, "epoch": 2, "epochs": [1, 2]}
        if path == "/v1/luthier/trace":
            told = {"object": "luthier.prediction_trace", "model": body["model"], "base": "luthier-mini", **sample_trace().to_dict()}
            nearest = [{"line": 17, "similarity": 0.5, "shared": ["day"], "prompt": "A day", "answer": "Un jour"}]
            return 200, {**told, "nearest": nearest, "seconds": 0.1}
        if path == "/v1/luthier/render":
            return 200, {"tokens": [{"id": 1, "text": "Hi", "kind": "context", "role": "user"}]}
        if path == "/v1/chat/completions":
            return 200, self._chat(body)
        return 404, {"error": {"message": f"Could not find {path}", "type": "invalid_request_error", "code": None, "param": None}}

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        text = self.answer(body["model"], body["messages"][-1]["content"])
        top = [{"token": text, "logprob": 0.0, "bytes": []}, {"token": "other", "logprob": -2.0, "bytes": []}]
        logprobs = {"content": [{"token": text, "logprob": 0.0, "bytes": [], "top_logprobs": top}], "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        if body.get("logprobs"):
            choice["logprobs"] = logprobs
        return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}


@contextmanager
def serving(api: FakeApi) -> Iterator[str]:
    """Serve on a free port; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            parts = urlsplit(self.path)
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            body = json.loads(raw) if raw and "json" in self.headers.get("content-type", "") else raw
            status, reply = api.reply(self.command, parts.path, parse_qs(parts.query), body)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = _do
        do_POST = _do

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
