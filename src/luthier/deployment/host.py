"""The engine host process: ``python -m luthier.deployment.host``.

It owns the loaded models and answers generation, scoring, rendering and loading over a Unix socket. ``luthier serve``
starts it, restarts it, and holds its standard input open: at end-of-file (the parent died, however) it exits at once.
On SIGTERM it finishes what runs, at most a few seconds; SIGINT it ignores. It prints one line ``ready`` when it listens and is warm.

Environment: ``LUTHIER_ENGINE_SOCKET``, ``LUTHIER_ENGINE_SECRET``, optionally ``LUTHIER_WARM_MODEL_PATH``, and the settings.
"""

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch

from luthier.chat.renderer import Renderer
from luthier.core.engine_messages import EngineReply, Failed, Load, is_last
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.generation import ModelTarget
from luthier.core.settings import Settings, from_environment
from luthier.deployment.host_requests import Desk, Ticket
from luthier.deployment.host_server import HostServer, Outbox
from luthier.deployment.model_cache import ModelCache
from luthier.engine.engine import Engine
from luthier.engine.runner import Runner
from luthier.engine.scheduler import Scheduler
from luthier.models.device import prepare_device, serving_placement
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 6.0
STOP_SECONDS = 2.0
FLUSH_SECONDS = 0.5
"""Together below the 10 s that a supervisor waits after SIGTERM."""
MAX_DEFAULT_THREADS = 4


def main() -> int:
    """Run the host until its parent dies or it is told to stop; the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server needs us for what it still answers
    exit_with_parent(lambda: os._exit(0))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = from_environment()
        socket_path = Path(_required("LUTHIER_ENGINE_SOCKET"))
        secret = _required("LUTHIER_ENGINE_SECRET")
        torch.set_num_threads(settings.engine_threads or max(1, min((os.cpu_count() or 1) // 2, MAX_DEFAULT_THREADS)))
        return asyncio.run(serve(settings, socket_path, secret, os.environ.get("LUTHIER_WARM_MODEL_PATH")))
    except LuthierError as error:
        logger.error("cannot start: %s", error.message)
        return 1


def _load(settings: Settings, folder: Path) -> LanguageModel:
    placement = serving_placement(settings.device, settings.precision, folder)
    prepare_device(placement.device)
    return load_model(folder, device=placement.device, dtype=placement.dtype)


async def serve(settings: Settings, socket_path: Path, secret: str, warm_path: str | None) -> int:
    """Compose the host, serve until SIGTERM, drain, stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = Engine(Runner(), Scheduler())
    warm_folder = settings.resolve_model_path(warm_path) if warm_path else None
    cache = ModelCache(
        engine,
        load_model=lambda folder: _load(settings, folder),
        load_renderer=Renderer.load,
        max_context_tokens=settings.max_context_tokens,
        pinned=frozenset({str(warm_folder)} if warm_folder else ()),
    )
    desk = Desk(engine, cache, num_threads=torch.get_num_threads())
    server = HostServer(engine, desk, secret=secret)
    engine.start()
    listener = await server.listen(socket_path)
    try:
        stopped = asyncio.create_task(stop.wait())
        if warm_folder:
            warm = asyncio.create_task(_warm(engine, desk, warm_folder))
            await asyncio.wait((warm, stopped), return_when=asyncio.FIRST_COMPLETED)
            if warm.done():
                warm.result()
        if not stop.is_set():
            print("ready", flush=True)
        await stopped
        logger.info("stopping")
    finally:
        listener.close()
        await server.drain(DRAIN_SECONDS)
        await asyncio.to_thread(engine.stop, STOP_SECONDS)
        # Whoever was cut off by the stop is told so.
        await server.drain(FLUSH_SECONDS)
        socket_path.unlink(missing_ok=True)
    return 0


async def _warm(engine: Engine, desk: Desk, folder: Path) -> None:
    """Load the base that most callers will ask for.

    Raises:
        InvalidRequest: it cannot be loaded; a server whose default model is broken must say so at its start.
    """
    outbox = Outbox(asyncio.get_running_loop())
    last: asyncio.Future[EngineReply] = asyncio.get_running_loop().create_future()

    def emit(reply: EngineReply) -> None:
        if is_last(reply):
            outbox.post(lambda: last.set_result(reply))

    request = Load(target=ModelTarget(name=folder.name, base_path=str(folder)))
    engine.call(lambda: desk.serve(request, Ticket(emit=emit)))
    reply = await last
    if isinstance(reply, Failed):
        raise InvalidRequest(f"The model in {folder} does not load: {reply.message}")


def exit_with_parent(leave: Callable[[], object], descriptor: int = 0) -> threading.Thread:
    """Call ``leave`` when the other end of ``descriptor`` (standard input) is closed, whatever the process is doing."""

    def watch() -> None:
        # os.read, not sys.stdin: a daemon thread inside the buffered reader makes the interpreter's own exit abort.
        try:
            while os.read(descriptor, 4096):
                pass
        except OSError:
            pass
        leave()

    thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
    thread.start()
    return thread


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise InvalidRequest(f"The environment variable {name} is not set.")
    return value


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Daemon threads may be inside torch; tearing the interpreter down around them is slow and can crash.
    os._exit(status)
