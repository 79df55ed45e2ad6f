"""Where a forked process begins.

What it does: imports the workshop only after the fork, where the fork server has it ready, so that the worker itself stays
small. What it does not: anything else. Named as the targets by ``lanes.py`` and ``data_lane.py``.
"""

from multiprocessing.connection import Connection

from luthier.worker.orders import ChildOrder, DatasetOrder


def carry_out(order: ChildOrder, alive: Connection) -> None:
    """Run one attempt; never returns."""
    from luthier.worker.child import run_child

    run_child(order, alive)


def carry_out_task(order: DatasetOrder, alive: Connection) -> None:
    """Run one attempt at a dataset task; never returns."""
    from luthier.worker.data_child import run_data_child

    run_data_child(order, alive)
