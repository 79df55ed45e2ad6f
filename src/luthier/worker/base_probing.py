"""The look at the base that a job's automatic epochs and rate rest on: once, before its first step.

What it does: measures where it counts, has the numbers decided anew, and writes ``spec.json`` unless a range test still has a word: an
attempt that dies before that looks again, with the same result, and a later one never does. What it does not: measure
(``training/base_probe.py``) or choose (``training/base_rule.py``). Called by ``worker/pipelines.py``.
"""

from collections.abc import Callable

from luthier.models.language_model import LanguageModel
from luthier.training.base_probe import probe_base
from luthier.training.base_rule import BaseFound, asks_base
from luthier.training.tokens import TokenSource
from luthier.worker.context import RunContext
from luthier.worker.range_testing import Decided
from luthier.worker.spec_file import read_spec, write_spec
from luthier.worker.start import Start, hyperparameters_of, objective_kind, options_of


def base_counts(ctx: RunContext) -> bool:
    """The run's numbers depend on the base's loss and are still open: its spec is written when they are not."""
    job = ctx.job
    return asks_base(hyperparameters_of(job), options_of(job), objective_kind(job)) and read_spec(ctx.run_dir) is None


def settle_by_base(
    ctx: RunContext, model: LanguageModel, start: Start, decided: Decided, train: TokenSource, again: Callable[[BaseFound], Decided]
) -> Decided:
    """The numbers to train with, but for what a range test finds.

    Args:
        ctx: the attempt.
        model: on the run's device; unchanged afterwards.
        start: where tuning starts.
        decided: as they are without knowing the base.
        train: the rows.
        again: decides the numbers, knowing the base.
    """
    if not base_counts(ctx):
        return decided
    parent = start.adapter.folder if start.adapter else None
    settled = again(ctx.floor.call(lambda: probe_base(model, decided[0], train, parent_adapter=parent)))
    if not settled[0].range_steps:
        write_spec(ctx.run_dir, *settled)
    return settled
