"""How many operations a second this device does in products of this model's own matrices: what a step's use of it is told against.

What it does: multiplies numbers of no meaning by matrices of a block's four shapes, for a fraction of a second, in the number format of
the weights. What it does not: forecast (``worker/forecasting.py`` measures one shape at the step's own rows), or know of a run.
Called by ``worker/pipelines.py`` before the first step.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from luthier.models.matrix import Matrix
from luthier.training.work import ModelShape

SECONDS = 0.2
"""For all four shapes together, unless a single product of the fewest rows takes longer."""
_MOST_ROWS, _FEWEST_ROWS = 1024, 32
_ROUNDS = 3


def matrix_rate(shape: ModelShape, *, device: torch.device, dtype: torch.dtype, seconds: float = SECONDS) -> float | None:
    """Operations per second at up to 1,024 rows, the best of a few rounds; None for a model whose shapes are not known exactly.

    Whatever else runs on the machine makes a round slower and never faster, so the best one is the device's own. The number of torch's
    threads is the caller's affair. Draws no random numbers from the run's generators.
    """
    if not shape.fast:
        return None
    h = shape.hidden_size
    sizes = ((shape.q_size + 2 * shape.kv_size, h), (h, shape.q_size), (2 * shape.mlp_size, h), (h, shape.mlp_size))
    until = time.perf_counter() + seconds
    work = took = 0.0
    for position, (outputs, inputs) in enumerate(sizes):
        budget = max(0.0, until - time.perf_counter()) / (len(sizes) - position)
        rows, best = _best_product(outputs, inputs, device=device, dtype=dtype, seconds=budget)
        # Each shape weighs as in a block, at the same number of rows.
        work += 2.0 * outputs * inputs
        took += best / rows
    return work / took


def _best_product(outputs: int, inputs: int, *, device: torch.device, dtype: torch.dtype, seconds: float) -> tuple[int, float]:
    """Rows, and the seconds of the quickest product of so many."""
    generator = torch.Generator(device=device).manual_seed(0)
    weight = torch.rand(outputs, inputs, generator=generator, device=device).to(dtype)
    x = torch.rand(_FEWEST_ROWS, inputs, generator=generator, device=device).to(dtype)
    matrix = Matrix(nn.Parameter(weight, requires_grad=False))
    # Which of the two layouts is quicker depends on the rows; the step has the choice too.
    ways = (matrix.times, lambda rows: F.linear(rows, weight))
    first = min(_timed(way, x) for way in ways)
    fitting = seconds / max(first, 1e-9) / (len(ways) * (_ROUNDS + 1)) * _FEWEST_ROWS
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, int(fitting)))
    x = x.repeat(-(-rows // _FEWEST_ROWS), 1)[:rows]
    return rows, min(_timed(way, x, rounds=_ROUNDS) for way in ways)


def _timed(way: Callable[[Tensor], Tensor], x: Tensor, rounds: int = 1) -> float:
    """Seconds of the quickest of some products, after one that makes what the others find."""
    wait = torch.cuda.synchronize if x.device.type == "cuda" else (lambda: None)
    best = float("inf")
    with torch.no_grad():
        way(x)
        for _ in range(rounds):
            wait()
            began = time.perf_counter()
            way(x)
            wait()
            best = min(best, time.perf_counter() - began)
    return best
