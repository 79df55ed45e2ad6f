"""A short learning-rate range test before a run: the rate that its own model and rows bear, found in a few thrown-away steps.

Smith 2017 (arXiv:1506.01186): the rate rises exponentially from step to step, and the loss shows where learning is fast and where it
breaks.
What it does: the steps and their curve. What it does not: keep a weight, choose (``range_rule.py``), or write a file. Called by
``worker/range_testing.py``.

A step's loss says more about its rows than about the rate, at small batches above all. So each step's rows are measured on the model as it
starts too, and the curve is the difference: how much cheaper rows that were never seen have become.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.language_model import LanguageModel
from luthier.trace.events import RangeTested
from luthier.training.attach import attach
from luthier.training.memory import keep_freed_memory
from luthier.training.methods import objective_of
from luthier.training.noise import noised
from luthier.training.objective import Totals
from luthier.training.optimizer import build_optimizer, take_step
from luthier.training.packing import laid_out, step_forwards
from luthier.training.range_rule import chosen_rate, rate_at, smoothed
from luthier.training.sft import room_on
from luthier.training.tokens import TokenSource
from luthier.training.turns import OwnTurn

_ADAPTER = "range-test"


class RangeTest:
    """One test of one run's start."""

    def __init__(
        self, model: LanguageModel, spec: TrainingSpec, train: TokenSource, *, parent_adapter: Path | None, should_stop: Callable[[], bool]
    ) -> None:
        """With an adapter the model is afterwards as it was before. With full tuning its weights are put back, bit for bit."""
        self._model, self._spec, self._train = model, spec, train
        self._parent_adapter, self._should_stop = parent_adapter, should_stop
        self._adapter = _ADAPTER if spec.method is TuningMethod.LORA else None
        self._objective = objective_of(spec)
        self._room = room_on(model)

    def run(self) -> RangeTested | None:
        """The test; None when it was stopped. The same spec and rows give the same bits on a CPU."""
        began = time.perf_counter()
        keep_freed_memory()
        model, was_training = self._model, self._model.module.training
        turn = OwnTurn(model, num_threads=self._spec.num_threads, compiled=model.compiled)
        parameters = attach(model, self._spec, self._parent_adapter, self._adapter)
        kept = [] if self._adapter is not None else [parameter.detach().clone() for parameter in parameters]
        turn.adapter = self._adapter
        try:
            with turn():
                steps = self._steps()
                starts = self._measure(steps)
                points = None if starts is None else self._learn(steps, starts, parameters)
        finally:
            self._put_back(parameters, kept)
            model.module.train(was_training)
        return None if points is None else self._told(points, time.perf_counter() - began)

    def _put_back(self, parameters: Sequence[nn.Parameter], kept: Sequence[torch.Tensor]) -> None:
        if self._adapter is not None:
            self._model.remove_adapter(self._adapter)
            return
        with torch.no_grad():
            for parameter, weight in zip(parameters, kept, strict=True):
                parameter.copy_(weight)
                parameter.grad = None
        torch.autograd.graph.increment_version(parameters)

    def _steps(self) -> list[list[list[int]]]:
        """The rows of each forward of each step, in the run's own order; a short file is read again."""
        spec, found, epoch = self._spec, [], 0
        while len(found) < spec.range_steps:
            epoch += 1
            for indices in self._train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=epoch):
                found.append(step_forwards(spec, indices, self._train, self._model.facts, self._room))
        return found[: spec.range_steps]

    def _measure(self, steps: Sequence[list[list[int]]]) -> list[float] | None:
        """The mean loss of each step's rows on the model as it starts; None when stopped."""
        found: list[float] = []
        for groups in steps:
            if self._should_stop():
                return None
            totals = Totals()
            with torch.no_grad():
                for group in groups:
                    with laid_out(self._model, self._spec):
                        totals = totals.plus(self._objective.sums(self._model, self._train, group))
            found.append(totals.loss / totals.count)
        return found

    def _learn(
        self, steps: Sequence[list[list[int]]], starts: Sequence[float], parameters: Sequence[nn.Parameter]
    ) -> list[tuple[float, float, float, int]] | None:
        """Rate, loss before the update, its difference from the start, and tokens of each step. Ends where a number is not finite."""
        spec, found = self._spec, []
        optimizer = build_optimizer(parameters, spec)
        for number, (groups, start) in enumerate(zip(steps, starts, strict=True), start=1):
            if self._should_stop():
                return None
            totals = Totals()
            count = self._objective.count(self._train, [row for group in groups for row in group])
            for group in groups:
                with laid_out(self._model, spec), noised(self._model, spec, number, group):
                    sums = self._objective.sums(self._model, self._train, group)
                    (sums.loss / count).backward()
                totals = totals.plus(sums)
            norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
            if not (math.isfinite(totals.loss) and math.isfinite(float(norm))):
                break
            if float(norm) > spec.max_grad_norm:
                nn.utils.clip_grads_with_norm_(parameters, spec.max_grad_norm, norm)
            rate, loss = rate_at(number, spec.range_steps, spec.learning_rate), totals.loss / totals.count
            found.append((rate, loss, loss - start, totals.count))
            take_step(optimizer, parameters, rate)
        optimizer.zero_grad(set_to_none=True)
        return found

    def _told(self, points: Sequence[tuple[float, float, float, int]], seconds: float) -> RangeTested:
        rates, losses, changes, tokens = (tuple(column) for column in zip(*points, strict=True)) if points else ((), (), (), ())
        curve = smoothed(rates, changes, tokens) if points else []
        rate, lowest = chosen_rate(rates, curve, self._spec.learning_rate)
        return RangeTested(
            steps=self._spec.range_steps,
            base_rate=self._spec.learning_rate,
            learning_rate=rate,
            lowest_rate=lowest,
            rates=rates,
            losses=losses,
            changes=tuple(changes),
            curve=tuple(curve),
            seconds=seconds,
        )
