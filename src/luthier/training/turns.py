"""Turns: how several runs share one model without a trace of each other.

What it does: what the process and the model have but once (random numbers, threads, mode, the adapter in use) is put as a run left it
before each of its turns. What it does not: decide whose turn it is (``worker/floor.py``). Called by ``loop.py``.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from luthier.models.language_model import LanguageModel

Result = TypeVar("Result")
Beside = Callable[[], None]
"""Something that needs no turn and may take long, such as a write to the disk. The run goes on when it is done."""
Turns = Generator[Beside | None, None, Result]
"""A run: it yields None where another may have the model, and what is to be done beside."""


def run_alone(turns: Turns[Result]) -> Result:
    """All turns, one after the other."""
    try:
        while True:
            beside = next(turns)
            if beside is not None:
                beside()
    except StopIteration as end:
        return end.value


def at_once(result: Result) -> Generator[None, None, Result]:
    """No turn at all: the result is there."""
    return result
    yield  # makes this a generator


class OwnTurn:
    """What is one run's own of what there is but once. Used by the thread that computes."""

    def __init__(self, model: LanguageModel, *, num_threads: int, compiled: bool) -> None:
        self._model, self._num_threads, self._compiled = model, num_threads, compiled
        self._random: dict[str, Tensor] | None = None
        self._seconds = 0.0
        self._began = 0.0
        self.adapter: str | None = None
        """In use from the next turn on."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """One turn."""
        self._began = time.perf_counter()
        # The number of threads decides the order of sums, hence the bits: it is part of the spec.
        torch.set_num_threads(self._num_threads)
        self._model.compiled = self._compiled
        if not self._model.module.training:
            self._model.module.train()
        if self._random is not None:
            set_random_state(self._random, self._model.device)
        with self._model.use_adapter(self.adapter):
            yield
        self._random = random_state(self._model.device)
        self._seconds, self._began = self.seconds, 0.0

    @property
    def seconds(self) -> float:
        """Time spent in turns so far, the one under way included."""
        return self._seconds + (time.perf_counter() - self._began if self._began else 0.0)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Of torch's generators, as a resume state keeps it."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.device"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Put back what ``random_state`` gave."""
    torch.set_rng_state(states["random.cpu"])
    if "random.device" in states:
        torch.cuda.set_rng_state(states["random.device"], device)
