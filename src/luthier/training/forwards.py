"""The forwards and backwards of one step, and what becomes of them where the device has too little memory.

What it does: cuts a step's rows into forwards that fit by arithmetic; where the device says that one does not fit after all, cuts them
smaller and, when each row lies alone already, has blocks made again on the way back; tells so. What it does not: weigh the gradient or
move a weight (``loop.py`` does, its only caller), deal rows over several devices (``replicas.py`` does), or know memory beforehand
(``worker/forecasting.py`` does).

How a step is cut never changes what it learns but for rounding. A CPU does not say that memory is missing, so that there the cut is
fixed and bits stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from luthier.core.errors import JobFailure
from luthier.core.specs import TrainingSpec
from luthier.models.language_model import LanguageModel
from luthier.trace.events import Notice
from luthier.training.noise import noised
from luthier.training.objective import LossSums, Objective
from luthier.training.packing import laid_out, step_forwards
from luthier.training.replicas import Replicas
from luthier.training.sft import room_on
from luthier.training.tokens import TokenSource, examples_of
from luthier.training.turns import run_alone


class StepForwards:
    """Those of one run."""

    def __init__(
        self,
        model: LanguageModel,
        spec: TrainingSpec,
        objective: Objective,
        source: TokenSource,
        tell: Callable[[Notice], None],
        replicas: Replicas,
    ) -> None:
        """``tell``: is told when a step was cut smaller; ``replicas``: the model on further devices."""
        self._model, self._objective, self._source, self._tell = model, objective, source, tell
        self._spec, self._replicas = spec, replicas
        # One cut for all: the device with the least room decides.
        self._room = min((room_on(each) for each in (model, *replicas.models)), key=lambda room: room.activation_bytes)

    def cut(self, indices: Sequence[int]) -> list[list[int]]:
        """The rows of each forward of a step, device after device."""
        return [group for groups in self._shares(indices) for group in groups]

    def _shares(self, indices: Sequence[int]) -> list[list[list[int]]]:
        """The forwards of each device; none where it has no rows."""
        dealt = self._replicas.deal(indices, self._source)
        return [step_forwards(self._spec, rows, self._source, self._model.facts, self._room) if rows else [] for rows in dealt]

    def learn(
        self, step: int, indices: Sequence[int], divisor: float, parameters: Sequence[nn.Parameter], done: LossSums | None = None
    ) -> tuple[list[list[int]], list[LossSums]]:
        """All forwards and backwards of a step; the gradient is in the parameters then.

        Args:
            step: 1-based.
            indices: of its rows.
            divisor: what the loss is divided by.
            parameters: those that learn, without a gradient.
            done: the sums of the only forward, where it is done already.

        Returns:
            The rows of each forward, and their sums.

        Raises:
            JobFailure: code ``insufficient_memory``: one row alone does not fit.
        """
        if done is not None:
            return self.cut(indices), [done]
        self._replicas.follow(parameters)
        while True:
            shares = self._shares(indices)
            groups = [group for share in shares for group in share]
            parts = self._tried(step, shares, divisor, parameters)
            if parts is not None:
                return groups, parts
            self._replicas.forget()
            for parameter in parameters:
                parameter.grad = None
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()
            self._tell(Notice(level="warn", message=self._narrowed(step, indices, groups)))

    def _tried(
        self, step: int, shares: Sequence[list[list[int]]], divisor: float, parameters: Sequence[nn.Parameter]
    ) -> list[LossSums] | None:
        """None where memory was missing, on whichever device."""
        examples = examples_of(self._source, [row for groups in shares for group in groups for row in group])
        try:
            # What the objective must know of the whole step, found on one device.
            objective = run_alone(self._objective.for_examples(self._model, self._source, examples))
            by_device = self._replicas.at_once(partial(self._share, step, divisor, objective), self._model, shares)
            if any(parts is None for parts in by_device):
                return None
            self._replicas.gather(parameters)
        except torch.OutOfMemoryError:
            return None
        return [sums for parts in by_device if parts is not None for sums in parts]

    def _share(
        self, step: int, divisor: float, objective: Objective, model: LanguageModel, groups: Sequence[Sequence[int]]
    ) -> list[LossSums] | None:
        """One device's forwards and backwards, in order. None where memory was missing."""
        parts: list[LossSums] = []
        try:
            for group in groups:
                with laid_out(model, self._spec), noised(model, self._spec, step, group):
                    sums = objective.sums(model, self._source, group)
                    (sums.loss / divisor).backward()
                parts.append(replace(sums, loss=sums.loss.detach()))
        except torch.OutOfMemoryError:
            # Its traceback holds what the forward kept: the rest is done when it is gone.
            return None
        return parts

    def _narrowed(self, step: int, indices: Sequence[int], groups: Sequence[Sequence[int]]) -> str:
        """Make the next try smaller; what was changed, in words."""
        began = f"The device's memory did not hold step {step} as it was cut"
        same = "What is learned is the same up to rounding."
        while self._room.activation_bytes > 1:
            self._room = replace(self._room, activation_bytes=self._room.activation_bytes // 2)
            cut = self.cut(indices)
            if cut != list(groups):
                return f"{began}: from now on its rows lie in {len(cut)} forwards and not in {len(groups)}. {same}"
        if not self._spec.gradient_checkpointing:
            self._spec = replace(self._spec, gradient_checkpointing=True)
            return f"{began}, each row alone: from now on blocks are made again on the way back, which takes longer. {same}"
        longest = max(indices, key=lambda index: self._source.examples[index].num_tokens)
        row = self._source.examples[longest]
        raise JobFailure(
            f"The row on line {row.source.line} ({row.num_tokens:,} tokens) does not fit into the device's memory, alone and with "
            'blocks made again on the way back. Use a smaller max_length, a smaller rank, "quantization": "nf4" or a smaller base.',
            code="insufficient_memory",
        )
