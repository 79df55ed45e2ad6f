"""The API in this process: real HTTP on a free port, real storage, a scripted engine. Called by contract tests."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import openai
import uvicorn

from luthier.api.app import create_app
from luthier.api.deps import Services, build_services
from luthier.core.ids import new_api_key, new_api_key_id, new_project_id
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.keys import DEFAULT_PROJECT, ApiKey, OwnLimits, Project, Role, key_sha256, masked
from luthier.core.settings import Settings
from luthier.storage.database import migrate
from tests.support.conformance import Recorder
from tests.support.fake_engine import BASE, FakeEngine

KEY = "sk-luthier-contract-tests-0123456789"
BASE_REVISION, BASE_LICENCE = "a1" * 32, "cc-by-4.0"
TUNED = "ft:gpt-4o-mini-2024-07-18:luthier:demo:abcd1234"


def new_services(folder: Path, engine: FakeEngine, **changes: Any) -> Services:
    """Services over a fresh data directory with one base model and one tuned model."""
    # Tests send wrong keys by the hundred.
    settings = Settings(data_dir=folder, **{"bad_keys_per_minute": 0, **changes})
    folder.mkdir(parents=True, exist_ok=True)
    settings.api_key_file.write_text(KEY)
    migrate(settings.state_database)
    services = build_services(settings, {"LUTHIER_ENGINE_SOCKET": engine.socket_path, "LUTHIER_ENGINE_SECRET": engine.secret})
    services.models.put(
        ModelRecord(
            name=BASE,
            kind=ModelKind.BASE,
            base=BASE,
            path=f"builtin:{BASE}",
            created_at=1,
            owned_by="system",
            revision=BASE_REVISION,
            licence=BASE_LICENCE,
        )
    )
    services.models.put(
        ModelRecord(
            name=TUNED,
            kind=ModelKind.ADAPTER,
            base=BASE,
            path="models/one",
            created_at=2,
            owned_by="luthier",
            job_id="ftjob-1",
            sha256="c" * 64,
        )
    )
    return services


class ApiServer:
    """One running API; ``prepare`` may replace some of its services before it starts."""

    recorder: ClassVar[Recorder | None] = None
    """Overhears every server of the contract tests."""

    def __init__(self, folder: Path, *, prepare: Callable[[Services], Services] = lambda services: services, **changes: Any) -> None:
        self.engine = FakeEngine().start()
        self.services = prepare(new_services(folder, self.engine, **changes))
        self.app = create_app(self.services.settings, self.services)
        app = self.app if self.recorder is None else self.recorder.wrap(self.app)
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self.app.state.stopping = lambda: self._server.should_exit
        self._thread = threading.Thread(target=self._server.run, name="api", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self._server.started
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def client(self, **options: Any) -> openai.OpenAI:
        """The official client, unchanged but for the address."""
        return openai.OpenAI(base_url=self.url + "/v1", **{"api_key": KEY, "max_retries": 0, "timeout": 30, **options})

    def new_key(self, role: str = "member", project_id: str = DEFAULT_PROJECT, **limits: int) -> str:
        """A key of this role in this project."""
        value = new_api_key()
        key = ApiKey(
            id=new_api_key_id(),
            name=f"a {role}'s",
            role=Role(role),
            project_id=project_id,
            sha256=key_sha256(value),
            redacted=masked(value),
            created_at=int(time.time()),
            created_by="tests",
            limits=OwnLimits(**limits),
        )
        self.services.keys.add(key)
        return value

    def new_project(self, name: str) -> str:
        """The id of a new project."""
        project = Project(id=new_project_id(), name=name, created_at=int(time.time()))
        self.services.keys.add_project(project)
        return project.id

    def http(self, key: str = KEY, **headers: str) -> httpx2.Client:
        """A plain HTTP client with the key."""
        return httpx2.Client(base_url=self.url, headers={"authorization": f"Bearer {key}", **headers}, timeout=30)

    def stop(self) -> None:
        """End the API and its engine."""
        self._server.should_exit = True
        self._thread.join(10)
        self.engine.stop()
