"""What a sweep is: the points of its grid, its id, and the request of each of its jobs.

What it does: reads lists of values from options; names points; says which metadata marks a sweep's jobs. What it does not: speak
to a server (``cli/sweep_jobs.py``) or print. Pure. Called by ``cli/sweep.py``.

A sweep's id is made from all that decides its jobs, so that the same command finds the sweep that it began.
"""

import hashlib
import itertools
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

Value = int | float | str
MARK = "made_by"
MADE_BY = "luthier sweep"
SWEEP, POINT, SIZE = "sweep", "sweep_point", "sweep_size"
RESERVED = (MARK, SWEEP, POINT, SIZE)
"""Metadata of a sweep's jobs; 12 of the 16 pairs are left for the user."""
MAX_OWN_METADATA = 12
_HYPERPARAMETERS = {"epochs": "n_epochs", "batch-size": "batch_size", "learning-rate-multiplier": "learning_rate_multiplier"}
_OPTIONS = ("rank", "alpha")
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One place of the grid."""

    values: tuple[tuple[str, Value], ...]
    """Axis (an option's name without dashes before it) and value, in the order of the axes."""

    @property
    def name(self) -> str:
        """As it stands in the job's metadata: ``epochs=3 rank=8``."""
        return " ".join(f"{axis}={_text(value)}" for axis, value in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A sweep before any of its jobs exists."""

    id: str
    points: tuple[Point, ...]
    shared: Mapping[str, Any]
    """Fields of every request but the files."""
    metadata: Mapping[str, str]
    """The user's own."""
    priority: int | None = None

    def request(self, point: Point, files: Mapping[str, str]) -> dict[str, Any]:
        """The body of ``POST /fine_tuning/jobs`` for a point.

        Args:
            point: one of ``points``.
            files: ``training_file`` and ``validation_file`` as ids.
        """
        values = dict(point.values)
        hyperparameters = {name: values[axis] for axis, name in _HYPERPARAMETERS.items() if axis in values}
        options = {name: values[name] for name in _OPTIONS if name in values}
        if self.priority is not None:
            options["priority"] = self.priority
        body = {**self.shared, **files, "seed": values["seed"], "metadata": {**self.metadata, **self.marks(point)}}
        if hyperparameters:
            body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
        return {**body, "luthier": options} if options else body

    def marks(self, point: Point) -> dict[str, str]:
        """The metadata by which the job of a point is found again."""
        return {MARK: MADE_BY, SWEEP: self.id, POINT: point.name, SIZE: str(len(self.points))}


class ListOf(click.ParamType):
    """Values with commas between them, each of them of one type, none of them twice: ``1,3,10``."""

    def __init__(self, kind: click.ParamType) -> None:
        self._kind = kind
        self.name = f"{kind.name},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Value, ...]:
        """The values in their order."""
        if isinstance(value, tuple):
            return value
        found = tuple(self._kind.convert(part.strip(), param, ctx) for part in str(value).split(","))
        for number, one in enumerate(found):
            if one in found[:number]:
                self.fail(f"{_text(one)} is given twice.", param, ctx)
        return found


def grid(axes: Mapping[str, Sequence[Value]]) -> tuple[Point, ...]:
    """Every combination of the axes' values; the last axis changes fastest."""
    return tuple(Point(values=tuple(zip(axes, values, strict=True))) for values in itertools.product(*axes.values()))


def sweep_id(identities: Sequence[str], points: Sequence[Point], shared: Mapping[str, Any]) -> str:
    """The id of the sweep of these points.

    Args:
        identities: of the files: a hash of what is in one, or its id.
        points: of the grid.
        shared: fields of every request.
    """
    told = json.dumps([list(identities), sorted(point.name for point in points), sorted(shared.items())])
    return f"sweep-{hashlib.sha256(told.encode()).hexdigest()[:12]}"


def new_sweep_id() -> str:
    """An id that no earlier sweep has."""
    return f"sweep-{secrets.token_hex(6)}"


def is_sweep_id(text: str) -> bool:
    """Whether a sweep can have this id."""
    return re.fullmatch(r"sweep-[0-9a-f]{12}", text) is not None


def identity(source: str | Path) -> str:
    """What stands for a file in a sweep's id: SHA-256 of a local one, the id of a stored one."""
    if isinstance(source, str):
        return source
    digest = hashlib.sha256()
    with source.open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
