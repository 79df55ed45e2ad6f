"""How well the model that tuning starts from finds some of the file's answers: one short look, before numbers are decided by it.

What it does: some forwards without gradients, over a bounded sample. What it does not: decide (``base_rule.py``), or replace the
measurement of the base that a run shows (``loop.py``: other rows, held-out ones where there are any). Called by
``worker/base_probing.py`` and ``worker/forecast_child.py``.
"""

from pathlib import Path

from luthier.core.specs import TrainingSpec
from luthier.models.language_model import LanguageModel
from luthier.training.attach import attach
from luthier.training.base_rule import BaseFound
from luthier.training.evaluate import measure
from luthier.training.memory import keep_freed_memory
from luthier.training.tokens import TokenSource
from luthier.training.turns import OwnTurn

MOST_ROWS, MOST_TOKENS = 64, 4_096
"""Of the sample; but at least one row. About half a second on the embedded base, at most (a tenth for short rows)."""
_ADAPTER = "base-probe"


def sample_rows(spec: TrainingSpec, train: TokenSource) -> list[int]:
    """The first rows that the run will learn from, in its own order, within the bounds."""
    found: list[int] = []
    tokens = 0
    for batch in train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1):
        for row in batch:
            tokens += int(train.lengths[row])
            if found and (len(found) == MOST_ROWS or tokens > MOST_TOKENS):
                return found
            found.append(row)
    return found


def probe_base(model: LanguageModel, spec: TrainingSpec, train: TokenSource, *, parent_adapter: Path | None) -> BaseFound:
    """Measure; the model is afterwards as it was before. The same spec and rows give the same bits on a CPU.

    Args:
        model: on the run's device.
        spec: with its seed, batch size and threads; epochs and rate do not count.
        train: supervised rows.
        parent_adapter: folder of the adapter whose tuning is continued: then it is what is asked.
    """
    keep_freed_memory()
    rows = sample_rows(spec, train)
    turn = OwnTurn(model, num_threads=spec.num_threads, compiled=model.compiled)
    was_training = model.module.training
    try:
        if parent_adapter is not None:
            attach(model, spec, parent_adapter, _ADAPTER)
            turn.adapter = _ADAPTER
        with turn():
            told = measure(model, train, rows)
    finally:
        if parent_adapter is not None:
            model.remove_adapter(_ADAPTER)
        model.module.train(was_training)
    return BaseFound(loss=told.loss, num_rows=len(rows), vocab_size=model.facts.vocab_size)
