"""Shares and their uncertainty: which answers are right, and how sure a difference between two models is.

What it does not: run models, print. Pure; called by every section.

Axis letters: S training runs, N questions, D resamples.
"""

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.core.matching import normalise

DRAWS = 10_000
_DRAWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean difference with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """In percentage points, as a table shows it."""
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def is_right(answer: str, accepted: Collection[str]) -> bool:
    """Whether an answer equals an accepted one; case, outer punctuation and spaces do not count (``core.matching``), accents do."""
    return normalise(answer) in {normalise(one) for one in accepted}


Scores = Sequence[Sequence[float | None]]
"""One list of scores (or hits) per run, all over the same questions; None where an answer has no score."""


def paired_bootstrap(tuned: Scores, rival: Scores, *, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """The mean of tuned models minus the mean of a rival on the same questions, with a percentile interval.

    Args:
        tuned: scores of one or more runs.
        rival: scores of one or more runs, of the base for example.
        draws: resamples of the questions. The runs are not resampled: the interval tells of the questions, not of the seeds.
        seed: of the draws.

    Returns:
        None when one side has no score at all.
    """
    tuned_SN, rival_SN = (np.array(scores, dtype=np.float64) for scores in (tuned, rival))  # None becomes NaN
    if np.isnan(tuned_SN).all() or np.isnan(rival_SN).all():
        return None
    random = np.random.default_rng(seed)
    differences = []
    with warnings.catch_warnings():
        # A resample in which one side has no score is left out of the percentiles.
        warnings.simplefilter("ignore", RuntimeWarning)
        for at in range(0, draws, _DRAWS_AT_ONCE):
            chosen_DN = random.integers(tuned_SN.shape[1], size=(min(_DRAWS_AT_ONCE, draws - at), tuned_SN.shape[1]))
            means_D = [np.nanmean(scores_SN[:, chosen_DN], axis=(0, 2)) for scores_SN in (tuned_SN, rival_SN)]
            differences.append(means_D[0] - means_D[1])
    low, high = np.nanpercentile(np.concatenate(differences), [2.5, 97.5])
    return Interval(mean=float(np.nanmean(tuned_SN) - np.nanmean(rival_SN)), low=float(low), high=float(high))


def pack_hits(hits: Sequence[bool]) -> dict[str, Any]:
    """Hits as they stand in the results file: ``n``, ``right``, and one digit per question in ``hits``."""
    return {"n": len(hits), "right": sum(hits), "hits": "".join("1" if hit else "0" for hit in hits)}


def unpack_hits(result: dict[str, Any]) -> list[bool]:
    """The inverse of ``pack_hits``."""
    return [digit == "1" for digit in result["hits"]]


def share(result: dict[str, Any]) -> float:
    """Right answers of a packed result, 0 to 1."""
    return result["right"] / result["n"]
