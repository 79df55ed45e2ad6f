"""Steps of several runs in one forward and backward over the base that they share.

What it does: a run offers its step, and whoever gives it its turns may do some of those that are offered at once; this says which fit.
What it does not: decide when (``worker/floor.py``), move a weight, or know the blocks (``models/together.py``). A step that nobody did is
done by its own run, as if it had never been offered. Offered by ``loop.py``.

It pays where a device waits for the next operator to be asked for, as a GPU does with a small model: eight runs then take little
longer than one. Losses are equal to those alone up to rounding, because the order of sums is another.
"""

import logging
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from luthier.core.specs import LoraKind, ObjectiveKind, TrainingSpec, TuningMethod
from luthier.models.language_model import AdapterRows, LanguageModel
from luthier.training.objective import LossSums
from luthier.training.sft import chosen_positions, most_tokens_of, room_on
from luthier.training.tokens import TokenSource

_log = logging.getLogger(__name__)
_SHORT = 2048
"""Tokens up to which a step's places cost a GPU less than its operators do, so that empty ones are no loss."""


class OfferedStep:
    """One run's next step, whose rows fit into one forward. Also a ``Beside`` that has nothing to do."""

    def __init__(
        self,
        model: LanguageModel,
        adapter: str,
        source: TokenSource,
        indices: Sequence[int],
        divisor: float,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        """``indices``: of the rows; ``divisor``: what their loss is divided by; ``parameters``: those that the gradient goes to."""
        self.model, self.divisor, self.parameters = model, divisor, parameters
        self._adapter, self._source, self._indices = adapter, source, indices
        self.num_tokens = sum(source.examples[index].num_tokens for index in indices)
        self.sums: LossSums | None = None
        """The step's sums, on the CPU, once somebody did it: the gradient is there then too."""
        self.seconds = 0.0
        """This step's part of the time that it took."""

    def __call__(self) -> None:
        """Nothing: who cannot do it with others gives the run its next turn."""

    def rows(self) -> AdapterRows:
        """What the model reads, each weight divided by what the loss is divided by: one backward serves all steps."""
        batch = self._source.batch(self._indices)
        ids_BT, rows_N, columns_N, weights_N = chosen_positions(batch)
        return AdapterRows(
            adapter=self._adapter,
            ids_BT=ids_BT,
            lengths_B=torch.from_numpy(batch.lengths_B),
            rows_N=rows_N,
            columns_N=columns_N - 1,
            targets_N=ids_BT[rows_N, columns_N],
            weights_N=weights_N / self.divisor,
        )


def may_join(model: LanguageModel, spec: TrainingSpec, adapter: str | None) -> bool:
    """The run's steps can be done with those of others: plain LoRA on answers alone on one device, over a model that can."""
    plain = spec.method is TuningMethod.LORA and spec.lora_kind is not LoraKind.DORA and spec.objective is ObjectiveKind.SUPERVISED
    quiet = spec.neftune_alpha == 0.0 and spec.prompt_loss_weight == 0.0 and not spec.gradient_checkpointing
    return adapter is not None and plain and quiet and not spec.more_devices and model.learns_together([adapter])


def do_together(offers: Sequence[OfferedStep]) -> None:
    """Do those steps that fit together. One that fits with none is left to its run; so are all after an error, which will be its own."""
    for steps in _fitting(offers):
        if len(steps) == 1:
            continue
        try:
            _do(steps)
        except RuntimeError:  # too little memory, for one: alone each may fit, and whose fault another error is shows there
            _log.warning("%d steps that could not be done at once are done one by one", len(steps), exc_info=True)
            for step in steps:
                step.sums = None
                for parameter in step.parameters:
                    parameter.grad = None


def _do(steps: Sequence[OfferedStep]) -> None:
    began = time.perf_counter()
    model = steps[0].model
    parts = [step.rows() for step in steps]
    loss, hits_P, losses_P = model.losses_together(parts)
    loss.backward()
    # One wait for all: the sums are taken from what is on the CPU then.
    both_2P = torch.stack((losses_P, hits_P.to(losses_P.dtype))).cpu()
    seconds = (time.perf_counter() - began) / len(steps)
    for step, own_2N in zip(steps, both_2P.split([len(part.rows_N) for part in parts], dim=1), strict=True):
        step.seconds, step.sums = seconds, _sums(own_2N[0] * step.divisor, own_2N[1].long())


def _sums(losses_N: Tensor, hits_N: Tensor) -> LossSums:
    count = len(losses_N)
    return LossSums(loss=losses_N.sum(), count=count, num_tokens=count, num_scored=count, num_correct=hits_N.sum(), losses_N=losses_N)


def _fitting(offers: Sequence[OfferedStep]) -> Iterator[list[OfferedStep]]:
    """Sets of steps on one model that one forward may have, those of like size beside each other."""
    left = sorted(offers, key=lambda step: (id(step.model), -step.num_tokens))
    while left:
        first = left.pop(0)
        most = most_tokens_of(first.model.facts, room_on(first.model).activation_bytes)
        taken = [first]
        while left and _fits(left[0], first, len(taken), most):
            taken.append(left.pop(0))
        yield taken


def _fits(step: OfferedStep, first: OfferedStep, taken: int, most_tokens: int) -> bool:
    """One more, given that each takes as many places as the first, which is the largest."""
    like = first.num_tokens <= max(_SHORT, 2 * step.num_tokens)
    return step.model is first.model and like and (taken + 1) * first.num_tokens <= most_tokens
