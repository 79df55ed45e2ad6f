"""Blocks are made again where a job fits so and not otherwise, and where nobody has said yes or no."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from luthier.core.examples import SourceLine
from luthier.core.specs import LuthierOptions, TuningMethod
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.models.facts import read_config, read_facts
from luthier.preprocessing.stage import Prepared
from luthier.training.forecast import peak_by_formula
from luthier.training.plan import plan_run
from luthier.training.work import shape_of
from luthier.worker.less_memory import with_less_memory
from tests.support.mini import MINI
from tests.support.trainable_model import spec_for

START: Any = SimpleNamespace(folder=MINI, facts=read_facts(MINI, hashed=False))
LENGTH, ROWS = 500, 32


def _rows() -> Prepared:
    weights = np.zeros(LENGTH, dtype=np.float32)
    weights[-40:] = 1.0
    examples = tuple(
        TokenizedExample(source=SourceLine("file-A", line), rendered=Rendered(ids_T=np.full(LENGTH, 9), weights_T=weights))
        for line in range(1, ROWS + 1)
    )
    return Prepared(examples=examples, num_tokens=ROWS * LENGTH, num_trained=ROWS * 40, num_truncated=0)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_only_where_it_is_what_makes_the_job_fit(method: TuningMethod) -> None:
    rows = _rows()
    spec = replace(spec_for(rows, method=method, epochs=1, batch_size=16), lora_rank=16 if method is TuningMethod.LORA else 0)
    plan = plan_run(spec, rows, None, START.facts, shape_of(read_config(MINI), START.facts))
    kept = peak_by_formula(plan, process_bytes=0)
    again = peak_by_formula(replace(plan, spec=replace(spec, gradient_checkpointing=True)), process_bytes=0)
    between = int((kept.low + again.likely) / 2)
    assert again.likely < between < kept.low

    def decided(available: float, asked: bool | None = None) -> Any:
        return with_less_memory((spec, ()), LuthierOptions(gradient_checkpointing=asked), START, rows, 0, int(available))

    settled, (decision,) = decided(between)
    assert settled == replace(spec, gradient_checkpointing=True)
    assert (decision.name, decision.value) == ("gradient_checkpointing", "on")
    assert f"would take {kept.likely / 1e9:.1f} GB of memory and has {between / 1e9:.1f}" in decision.reason
    # It fits anyway, by the plan and by the bound that needs none; it does not fit even so; or somebody has decided.
    for other in (
        decided(kept.low * 1.01),
        decided(1e12),
        decided(again.low * 0.5),
        decided(between, asked=False),
        decided(between, asked=True),
    ):
        assert other == (spec, ())


def test_a_gpu_is_left_alone() -> None:
    rows = _rows()
    spec = replace(spec_for(rows, epochs=1, batch_size=16), device="cuda")
    assert with_less_memory((spec, ()), LuthierOptions(), START, rows, 0, 1) == (spec, ())
