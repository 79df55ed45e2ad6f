"""Where a forked process begins.

What it does: imports the workshop only after the fork, where the fork server has it ready, so that the worker itself stays
small. What it does not: anything else. Named as the targets by ``lanes.py``, ``group_lane.py``, ``data_lane.py`` and ``forecast_job.py``.
"""

from multiprocessing.connection import Connection

from luthier.worker.forecast_order import ForecastOrder
from luthier.worker.orders import ChildOrder, DatasetOrder


def carry_out(order: ChildOrder, alive: Connection) -> None:
    """Run one attempt; never returns."""
    from luthier.worker.child import run_child

    run_child(order, alive)


def carry_out_group(order: ChildOrder, worker: Connection) -> None:
    """Train jobs on one base, this one first; never returns."""
    from luthier.worker.group_child import run_group_child

    run_group_child(order, worker)


def carry_out_task(order: DatasetOrder, alive: Connection) -> None:
    """Run one attempt at a dataset task; never returns."""
    from luthier.worker.data_child import run_data_child

    run_data_child(order, alive)


def carry_out_forecast(order: ForecastOrder, answers: Connection) -> None:
    """Measure for a forecast; never returns."""
    from luthier.worker.forecast_child import forecast_child

    forecast_child(order, answers)
