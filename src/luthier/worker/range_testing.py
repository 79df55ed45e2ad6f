"""The learning-rate range test of a job: carried out before its first step, once, and kept in the run's folder.

What it does: runs the test where one is due, puts its rate into the spec, and writes ``range_test.json`` and after it ``spec.json``: an
attempt that dies before that tests again, with the same numbers, and a later one never does. What it does not: test
(``training/range_test.py``) or choose (``training/range_rule.py``). Called by ``worker/pipelines.py``.
"""

import json
from dataclasses import asdict, replace

from luthier.core.specs import Decision, TrainingSpec
from luthier.core.stage import Stage
from luthier.models.language_model import LanguageModel
from luthier.trace.events import RangeTested
from luthier.training.range_rule import rate_decisions
from luthier.training.range_test import RangeTest
from luthier.training.tokens import TokenSource
from luthier.worker.context import RunContext
from luthier.worker.forecasting import JobForecaster
from luthier.worker.spec_file import read_spec, write_spec
from luthier.worker.start import Start

CURVE_FILE = "range_test.json"
Decided = tuple[TrainingSpec, tuple[Decision, ...]]
"""A spec, and why each of its numbers is what it is."""


def is_due(ctx: RunContext, spec: TrainingSpec) -> bool:
    """The run's rate is still to be found: its spec is written when it is."""
    return spec.range_steps > 0 and read_spec(ctx.run_dir) is None


def settle_rate(
    ctx: RunContext, model: LanguageModel, start: Start, decided: Decided, train: TokenSource, forecaster: JobForecaster
) -> Decided | None:
    """The numbers to train with; None when the run was stopped during the test, which begins anew in the next attempt.

    Args:
        ctx: the attempt.
        model: on the run's device; unchanged afterwards.
        start: where tuning starts.
        decided: as ``resolve`` made it, with the automatic rate.
        train: the rows.
        forecaster: told what the test took.
    """
    spec, decisions = decided
    if not is_due(ctx, spec):
        return decided
    parent = start.adapter.folder if start.adapter else None
    test = RangeTest(model, spec, train, parent_adapter=parent, should_stop=ctx.should_stop)
    told = ctx.floor.call(test.run)
    if told is None:
        return None
    forecaster.rate_tested(told)
    ctx.tracer.emit(Stage.TRAINING, told)
    (ctx.run_dir / CURVE_FILE).write_text(json.dumps(asdict(told), indent=1), encoding="utf-8")
    settled = with_rate(spec, decisions, told)
    write_spec(ctx.run_dir, *settled)
    return settled


def with_rate(spec: TrainingSpec, decisions: tuple[Decision, ...], told: RangeTested) -> Decided:
    """The spec with the test's rate, as a multiplier of the base rate too, and the reasons of both."""
    multiplier = spec.learning_rate_multiplier * told.learning_rate / spec.learning_rate
    new = {decision.name: decision for decision in rate_decisions(told, multiplier)}
    spec = replace(spec, learning_rate=told.learning_rate, learning_rate_multiplier=multiplier)
    return spec, tuple(new.get(decision.name, decision) for decision in decisions)
