"""A run's model on several devices of one machine: a copy on each further one, which computes its part of every step.

What it does: deals a step's rows over the devices, has all of them compute at once (a thread for each further device), adds their
gradients to the run's own in a fixed order, and copies the weights that learn before each step. What it does not: compute a loss, cut rows
into forwards or answer for too little memory (``forwards.py`` does, which calls this), load a model (``worker/placing.py``), or move a
weight: the optimizer knows the first device's alone, and so do measures, checkpoints and resume states. Attached by ``loop.py``.

Synchronous data parallelism (Li et al. 2020, arXiv:2006.15704), but for the mean: a loss is divided by what the whole step counts before
its backward, so that the sum of the devices' gradients is the step's. Without copies all of this is the run's own model alone.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from luthier.core.specs import TrainingSpec
from luthier.models.language_model import LanguageModel
from luthier.training.attach import attach
from luthier.training.tokens import TokenSource

Share = TypeVar("Share")
Result = TypeVar("Result")


class Replicas:
    """The copies of one run's model."""

    def __init__(self, models: Sequence[LanguageModel], spec: TrainingSpec) -> None:
        """``models``: the same weights as the run's own in the same numbers, one on each of ``spec.more_devices``."""
        assert len(models) == len(spec.more_devices), "each further device has one copy"
        self.models = tuple(models)
        self._spec = spec
        self._adapter: str | None = None
        self._parameters: list[list[nn.Parameter]] = []
        # None is started before there is work for it, and all end with this object. The number of threads decides the bits here too.
        self._threads = ThreadPoolExecutor(
            max(1, len(models)), thread_name_prefix="replica", initializer=torch.set_num_threads, initargs=(spec.num_threads,)
        )

    def attach(self, parent_adapter: Path | None, adapter: str | None) -> None:
        """As ``attach.attach``, to every copy. What is learned comes later, by ``follow``."""
        self._adapter = adapter
        self._parameters = [attach(model, self._spec, parent_adapter, adapter) for model in self.models]
        for model in self.models:
            model.module.train()

    def follow(self, parameters: Sequence[nn.Parameter]) -> None:
        """The copies' weights that learn become the run's own, however those came to be what they are."""
        with torch.no_grad():
            for copies in self._parameters:
                for copy, own in zip(copies, parameters, strict=True):
                    copy.copy_(own, non_blocking=True)

    def deal(self, indices: Sequence[int], source: TokenSource) -> list[list[int]]:
        """A step's rows by device, the run's own first: about as many tokens each, in the step's order. Pairs stay together.

        The longest example goes first, and each to the device that has the fewest tokens so far; a device may have none.
        """
        if not self.models:
            return [list(indices)]
        each = source.rows_per_example
        examples = [list(indices[at : at + each]) for at in range(0, len(indices), each)]
        sizes = [sum(source.examples[row].num_tokens for row in rows) for rows in examples]
        dealt: list[list[int]] = [[] for _ in range(1 + len(self.models))]
        tokens = [0] * len(dealt)
        for number in sorted(range(len(examples)), key=lambda number: -sizes[number]):
            device = tokens.index(min(tokens))
            dealt[device].append(number)
            tokens[device] += sizes[number]
        return [[row for number in sorted(numbers) for row in examples[number]] for numbers in dealt]

    def at_once(self, work: Callable[[LanguageModel, Share], Result], model: LanguageModel, shares: Sequence[Share]) -> list[Result]:
        """Do each device's share of some work on its own model, and wait for all of them.

        Args:
            work: called once for each share, with the device's model, its adapter in use.
            model: the run's own, with its adapter in use.
            shares: by device; further devices with an empty one do nothing.

        Returns:
            What came of it, by device, without those that did nothing.

        Raises:
            Whatever ``work`` raises; of several errors that of the first device.
        """
        beside = [self._threads.submit(self._on, copy, work, share) for copy, share in zip(self.models, shares[1:], strict=True) if share]
        try:
            own = work(model, shares[0])
        finally:
            # Nobody may touch the copies before they rest, whatever went wrong here.
            wait(beside)
        return [own, *(future.result() for future in beside)]

    def _on(self, copy: LanguageModel, work: Callable[[LanguageModel, Share], Result], share: Share) -> Result:
        with _current(copy.device), copy.use_adapter(self._adapter):
            return work(copy, share)

    def gather(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add the copies' gradients to those of the run's own weights, one device after the other; the copies have none then."""
        for copies in self._parameters:
            for copy, own in zip(copies, parameters, strict=True):
                if copy.grad is None:
                    continue
                moved = copy.grad.to(own.device, non_blocking=True)
                own.grad = moved if own.grad is None else own.grad.add_(moved)
                copy.grad = None

    def forget(self) -> None:
        """Throw the copies' gradients away."""
        for copies in self._parameters:
            for copy in copies:
                copy.grad = None


def _current(device: torch.device) -> AbstractContextManager[object]:
    """A thread's operators that name no device use this one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
