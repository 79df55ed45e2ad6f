"""Noise on the input embeddings while a step learns, and nowhere else.

NEFTune (Jain et al. 2023, arXiv:2310.05914). What it does: opens it around a training forward, with a seed for each row from the run's
seed, the step and the row's place in the file. So a step's noise is the same however its rows are cut into forwards and laid out, after
a resume, and beside other runs on the same base; no generator is carried along. What it does not: make the noise
(``models/embedding_noise.py``). Called by ``loop.py``, ``range_test.py`` and
``dry_run.py``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from luthier.core.specs import TrainingSpec
from luthier.models.embedding_noise import EmbeddingNoise
from luthier.models.language_model import LanguageModel


@contextmanager
def noised(model: LanguageModel, spec: TrainingSpec, step: int, rows: Sequence[int]) -> Iterator[None]:
    """Forwards over these rows have the step's noise here, where the run asks for any; afterwards none.

    ``rows``: indices into the training rows, in the order in which the forward has them.
    """
    if spec.neftune_alpha:
        model.noise = EmbeddingNoise(spec.neftune_alpha, tuple(_seed(spec.seed, step, row) for row in rows))
    try:
        yield
    finally:
        model.noise = None


def _seed(seed: int, step: int, row: int) -> int:
    """Of one row in one step; NumPy promises that its mixing stays the same."""
    return int(np.random.SeedSequence([seed & 0xFFFFFFFF, step, row]).generate_state(1, np.uint64)[0] >> np.uint64(1))
