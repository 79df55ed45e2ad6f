"""``luthier serve``: the API in this process, the worker and the engine host as its children.

What it does: checks port and data directory before anything slow is imported, makes the key, brings the database up to
date, starts and stops everything. What it does not: answer requests (``api``), train (``worker``) or generate
(``deployment/host.py``).
"""

import dataclasses
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path

import click

from luthier.cli.children import Child, Children
from luthier.cli.data_dir import CannotStart, announce, api_key, lock, prepare
from luthier.cli.settings_file import read_settings
from luthier.core.settings import Settings

# Of the 30 seconds that a stop may take: requests in flight first, then the children.
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection stays open: longer than clients keep theirs (5 seconds), or a request would meet a closing one."""
_DRAIN_SECONDS = 5
_CHILDREN_SECONDS = 20.0


@click.command(epilog="Example: luthier serve --port 8000 --data-dir luthier-data")
@click.option("--host", default=None, help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65535), default=None, help="Port to listen on (default 8000; 0 takes a free one).")
@click.option("--data-dir", type=click.Path(path_type=Path), default=None, help="Directory that holds everything (default ./luthier-data).")
@click.option("--until-eof", is_flag=True, help="Stop when standard input ends: for a program that starts a server for itself.")
def serve(host: str | None, port: int | None, data_dir: Path | None, until_eof: bool) -> None:
    """Start the API, the worker and the engine host on this machine."""
    started = time.monotonic()
    if until_eof:
        threading.Thread(target=_stop_at_eof, name="parent-watch", daemon=True).start()
    settings = read_settings(host=host, port=port, data_dir=data_dir)
    listener = _bind(settings)
    prepare(settings.data_dir)
    settings = read_settings(host=host, port=listener.getsockname()[1], data_dir=settings.data_dir.resolve())
    with lock(settings.data_dir):
        _, fresh = api_key(settings)
        socket_dir = Path(tempfile.mkdtemp(prefix="luthier-"))
        try:
            _run(settings, listener, fresh, socket_dir, started)
        finally:
            shutil.rmtree(socket_dir, ignore_errors=True)


def _stop_at_eof() -> None:
    """Block on standard input; its end stops this server in order."""
    # os.read, not sys.stdin: a daemon thread inside the buffered reader makes the interpreter's own exit abort.
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def _bind(settings: Settings) -> socket.socket:
    """Take the port before anything else, so that a second server fails at once and clearly."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise CannotStart(f"Cannot listen on {settings.host}:{settings.port} ({reason}). Choose another port with --port.") from error
    return listener


def _run(settings: Settings, listener: socket.socket, fresh: bool, socket_dir: Path, started: float) -> None:
    from luthier.storage.database import migrate

    migrate(settings.state_database)
    end_old_leases(settings)
    warm_path = _register_default_base(settings)
    os.environ.update(settings.environment())
    os.environ["LUTHIER_ENGINE_SOCKET"] = str(socket_dir / "engine.sock")
    os.environ["LUTHIER_ENGINE_SECRET"] = secrets.token_hex(32)
    os.environ["LUTHIER_WARM_MODEL_PATH"] = str(settings.resolve_model_path(warm_path))
    # Threads that wait for each other spin only shortly before they sleep: beside one busy neighbour endless spinning made
    # a training step of two threads up to 40 times slower (experiments/LOG.md). Read by libgomp when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    logs = settings.data_dir / "logs"
    children = Children(
        [
            Child(name="engine host", module="luthier.deployment.host", log_file=logs / "engine.log"),
            Child(name="worker", module="luthier.worker.main", log_file=logs / "worker.log"),
        ],
        os.environ,
    )
    stopping = _note_signals()
    children.start()
    url = _url(settings)
    record = announce(settings, url)
    try:
        _serve_api(settings, listener, url, fresh, started, stopping)
    finally:
        record.unlink(missing_ok=True)
        children.stop(_CHILDREN_SECONDS)


def end_old_leases(settings: Settings) -> None:
    """Whoever held one is gone, as the directory's lock is ours: no answer tells an estimate that nobody keeps up to date, not even
    before the worker is up, which does the same when it alone is started anew."""
    from luthier.jobs.queue import JobQueue
    from luthier.storage.database import Database

    database = Database(settings.state_database)
    JobQueue(database).abandon_leases()
    database.close()


def _note_signals() -> threading.Event:
    """From here on a signal stops the server in order, also before uvicorn listens to signals and after it is done.

    uvicorn repeats the signal that stopped it once it has restored these handlers; they must not end the process then.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stopping.set())
    return stopping


def _url(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - a comparison, not a bind
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{settings.port}"


def _register_default_base(settings: Settings) -> str:
    """The model inside the package is a served model like any other: it needs its record. Returns the default base's path."""
    from luthier.core.jobs import ModelKind, ModelRecord, RunsOn
    from luthier.models.facts import read_licence, revision
    from luthier.storage.database import Database
    from luthier.storage.models import ModelStore

    database = Database(settings.state_database)
    models = ModelStore(database)
    name, path = "luthier-mini", "builtin:luthier-mini"
    folder = settings.resolve_model_path(path)
    before = models.get(name)
    record = before or ModelRecord(name=name, kind=ModelKind.BASE, base=name, path=path, created_at=int(time.time()), owned_by="system")
    # Read at each start: another version of the package may bring other weights.
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    record = dataclasses.replace(record, revision=revision(folder), licence=read_licence(folder), num_bytes=size, runs_on=RunsOn.FAST)
    if record != before:
        models.put(record)
    default = models.get(settings.default_base)
    database.close()
    if default is None:
        raise CannotStart(f"LUTHIER_DEFAULT_BASE names {settings.default_base!r}, which is not among this server's base models.")
    return default.path


def _serve_api(settings: Settings, listener: socket.socket, url: str, fresh: bool, started: float, stopping: threading.Event) -> None:
    import uvicorn

    from luthier.api.app import create_app
    from luthier.api.deps import build_services
    from luthier.api.slow_clients import HeadDeadline

    app = create_app(settings, build_services(settings))
    config = uvicorn.Config(
        app,
        http=HeadDeadline,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
    )
    server = uvicorn.Server(config)
    # Pages hold a connection open as long as they are looked at; they come back to the next server.
    app.state.stopping = lambda: server.should_exit

    def greet() -> None:
        while not server.started:
            time.sleep(0.02)
        _greet(settings, url, fresh, started)
        if stopping.is_set():  # a signal came before uvicorn took them over
            server.should_exit = True

    threading.Thread(target=greet, name="greeting", daemon=True).start()
    server.run(sockets=[listener])


def _greet(settings: Settings, url: str, fresh: bool, started: float) -> None:
    made = " (made just now)" if fresh else ""
    click.echo(f"Luthier listens on {url}   ({time.monotonic() - started:.1f} s)")
    click.echo(f"  data     {settings.data_dir}")
    click.echo(f"  key      {settings.api_key_file}{made}")
    click.echo(f"  page     {url}/   (sign in with the key)")
    click.echo("  use it   " + f'export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY="$(cat {settings.api_key_file})"')
