"""Packing: the rows of a step laid end to end in as few sequences as best fit makes them, one forward each.

What it does: cuts a step's rows into forwards, and has the model read them as the run asks while a step learns. What it does not: say
whether a run packs (``option_decisions.py`` does), choose which rows a step has (their number is ``batch_size``, packed or not), place
rows (the token source does, ``preprocessing/pack.py``), or touch validation, whose rows lie as they always do. Called by ``loop.py``,
``plan.py`` and ``dry_run.py``.

Attention is block-diagonal and positions begin anew in each row (``models/flat.py``), so no row sees another: what a step learns is what
it learns from the same rows side by side, up to rounding. Best fit: Ding et al. 2024, arXiv:2404.10830; rows that must not see each other:
Krell et al. 2021, arXiv:2107.02027.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from luthier.core.specs import TrainingSpec
from luthier.models.facts import ModelFacts
from luthier.models.language_model import LanguageModel
from luthier.training.sft import Room, micro_batches, most_tokens_of
from luthier.training.tokens import TokenSource


def step_forwards(
    spec: TrainingSpec, indices: Sequence[int], source: TokenSource, facts: ModelFacts, room: Room | None = None
) -> list[list[int]]:
    """The rows of each forward of a step. A packed sequence is as long as one forward may be; a longer row lies alone."""
    if not spec.packing:
        return micro_batches(indices, source.examples, facts, room, rows_per_example=source.rows_per_example, all_scored=scores_all(spec))
    most_tokens = most_tokens_of(facts) if room is None else most_tokens_of(facts, room.activation_bytes)
    return source.packed(indices, most_tokens)


def scores_all(spec: TrainingSpec) -> bool:
    """A step's forwards make logits for prompts too: counted as if for every token."""
    return spec.prompt_loss_weight > 0


@contextmanager
def laid_out(model: LanguageModel, spec: TrainingSpec) -> Iterator[None]:
    """The model reads rows end to end here where the run packs, and makes blocks again where the run says so; afterwards as before."""
    before = model.flat, model.recompute
    model.flat, model.recompute = model.flat or spec.packing, spec.gradient_checkpointing
    try:
        yield
    finally:
        model.flat, model.recompute = before
