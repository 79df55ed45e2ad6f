"""Runs that share one floor, each in a thread of its own, to their ends."""

import threading
from collections.abc import Callable, Sequence

from luthier.worker.floor import SharedFloor


def on_one_floor(floor: SharedFloor, names: Sequence[str], run: Callable[[str], None]) -> None:
    """``run`` for each name at the same moment; returns when all are over and the floor is closed."""
    begin = threading.Barrier(len(names))

    def begun(name: str) -> None:
        begin.wait(60)
        run(name)

    threads = [threading.Thread(target=begun, args=(name,), daemon=True) for name in names]
    work = threading.Thread(target=floor.work, daemon=True)
    for thread in (*threads, work):
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    floor.close()
    work.join(60)
    assert not work.is_alive()
