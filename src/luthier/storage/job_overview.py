"""Jobs as one looks over them: filtered, sorted, counted, and those that changed since somebody last looked.

What it does: one query a page whatever the number of jobs; the place of those that wait; which jobs use a file; a mark that grows with
every change (the database's own triggers count it). What it does not: change a job (``jobs.py``). Called by the API's job list, its stream
and its data sets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Column, ColumnElement, and_, case, exists, func, or_, select, union

from luthier.core.errors import NotFound
from luthier.core.jobs import Job, JobStatus
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.jobs import JOB_COLUMNS, job_of_row
from luthier.storage.ownership import Owned
from luthier.storage.pages import Page, cut

_JOBS = schema.jobs
_NUMBERS_LAST = 1e308
SORTS: dict[str, Column[Any]] = {
    "created_at": _JOBS.c.seq,
    "status": _JOBS.c.status,
    "model": _JOBS.c.model,
    "best_valid_loss": _JOBS.c.best_valid_loss,
    "finished_at": _JOBS.c.finished_at,
}
"""What a list can be sorted by; ``-`` before it turns the order round. Jobs without the value come last either way."""
NAMED = 8
"""Jobs of a file that are told one by one."""
_WAITING = (JobStatus.VALIDATING_FILES, JobStatus.QUEUED, JobStatus.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs; None: all."""

    statuses: Sequence[str] | None = None
    methods: Sequence[str] | None = None
    model: str | None = None
    """Of the name that was asked for, the open base, or the tuned model."""
    search: str | None = None
    """Part of an id, a suffix, a name of a model or base, or of a name or value in the metadata, whatever the case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUse:
    """The jobs that train on a file or are checked against it."""

    file_id: str
    jobs: int
    unfinished: int
    named: tuple[tuple[str, str | None, str], ...]
    """Id, suffix and status of up to ``NAMED`` of them: those that are not finished first, then the newest first."""


class JobOverview(Owned):
    """The table of jobs, to look at."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, wanted: JobFilter, *, sort: str, limit: int, after: str | None) -> tuple[Page[Job], int]:
        """A page, and how many jobs the filter lets through.

        Args:
            sort: a name of ``SORTS``, with ``-`` before it for the largest first.
            after: id of the last job of the page before.

        Raises:
            NotFound: ``after`` is not a job.
        """
        value, descending = _order(sort)
        query = select(*JOB_COLUMNS).where(self._mine(_JOBS), *_conditions(wanted))
        count = select(func.count()).select_from(_JOBS).where(self._mine(_JOBS), *_conditions(wanted))
        with self._database.read() as connection:
            total = connection.execute(count).scalar_one()
            if after is not None:
                at = connection.execute(select(value, _JOBS.c.seq).where(_JOBS.c.id == after, self._mine(_JOBS))).one_or_none()
                if at is None:
                    raise NotFound(f"No such object: {after}", param="after")
                query = query.where(_behind(value, at[0], at[1], descending))
            newest = _JOBS.c.seq.desc() if descending else _JOBS.c.seq.asc()
            rows = connection.execute(query.order_by(value.desc() if descending else value.asc(), newest).limit(limit + 1)).all()
        return cut(rows, limit, job_of_row), total

    def counts(self) -> dict[str, int]:
        """How many jobs there are in each status."""
        query = select(_JOBS.c.status, func.count()).where(self._mine(_JOBS)).group_by(_JOBS.c.status)
        with self._database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return {status.value: found.get(status.value, 0) for status in JobStatus}

    def unfinished_of(self, model: str) -> list[str]:
        """Ids of the jobs that go on from this model and are not finished, oldest first."""
        final = [status.value for status in JobStatus if status.is_final]
        query = select(_JOBS.c.id).where(_JOBS.c.parent_model == model, _JOBS.c.status.not_in(final), self._mine(_JOBS))
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(_JOBS.c.seq)).scalars())

    def uses(self, file_id: str | None = None) -> list[FileUse]:
        """Of each file that a job of this project uses, in no order; or of this file alone. The file itself may be deleted by now."""
        open_ = case((_JOBS.c.status.in_([status.value for status in JobStatus if status.is_final]), 0), else_=1).label("open")
        told = (_JOBS.c.seq, _JOBS.c.id, _JOBS.c.suffix, _JOBS.c.status, open_)
        # A job whose two files are the same uses it once: union leaves the second row out.
        both = union(
            *(
                select(column.label("file"), *told).where(self._mine(_JOBS), column.is_not(None) if file_id is None else column == file_id)
                for column in (_JOBS.c.training_file, _JOBS.c.validation_file)
            )
        ).subquery()
        file = both.c.file
        ranked = select(
            both,
            func.count().over(partition_by=file).label("jobs"),
            func.sum(both.c.open).over(partition_by=file).label("unfinished"),
            func.row_number().over(partition_by=file, order_by=(both.c.open.desc(), both.c.seq.desc())).label("place"),
        ).subquery()
        query = select(ranked).where(ranked.c.place <= NAMED).order_by(ranked.c.file, ranked.c.place)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            FileUse(
                file_id=file,
                jobs=some[0].jobs,
                unfinished=some[0].unfinished,
                named=tuple((row.id, row.suffix, row.status) for row in some),
            )
            for file, some in ((file, list(found)) for file, found in groupby(rows, key=lambda row: row.file))
        ]

    def mark(self) -> int:
        """The latest change of all."""
        with self._database.read() as connection:
            return connection.execute(select(func.max(_JOBS.c.changed))).scalar_one() or 0

    def changed_since(self, mark: int, limit: int) -> tuple[tuple[Job, int], ...]:
        """Jobs that changed after a mark, each with its own one, in the order of their latest change."""
        query = select(*JOB_COLUMNS, _JOBS.c.changed).where(_JOBS.c.changed > mark, self._mine(_JOBS))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(_JOBS.c.changed).limit(limit)).all()
        return tuple((job_of_row(row), row.changed) for row in rows)

    def places(self, now: float) -> dict[str, int]:
        """The place of each job that waits for a trainer, from 1, over all projects: in the order in which they are leased when every
        project has had as many; told only of jobs that are seen."""
        free = _JOBS.c.lease_expires_at.is_(None) | (_JOBS.c.lease_expires_at <= now)
        priority = func.coalesce(_JOBS.c.options["priority"].as_integer(), 0)
        turn = func.row_number().over(partition_by=_JOBS.c.project_id, order_by=(priority.desc(), _JOBS.c.seq))
        waiting = _JOBS.c.status.in_([status.value for status in _WAITING])
        query = select(_JOBS.c.id, _JOBS.c.project_id).where(waiting, free).order_by(turn, _JOBS.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        mine = self._project_id
        return {row.id: place for place, row in enumerate(rows, start=1) if mine is None or row.project_id == mine}


def _order(sort: str) -> tuple[ColumnElement[Any], bool]:
    descending = sort.startswith("-")
    column = SORTS[sort.removeprefix("-")]
    if column is _JOBS.c.seq or column is _JOBS.c.status or column is _JOBS.c.model:
        return column, descending
    return func.coalesce(column, -_NUMBERS_LAST if descending else _NUMBERS_LAST), descending


def _behind(value: ColumnElement[Any], at: Any, seq: int, descending: bool) -> ColumnElement[bool]:
    if descending:
        return or_(value < at, and_(value == at, _JOBS.c.seq < seq))
    return or_(value > at, and_(value == at, _JOBS.c.seq > seq))


def _contains(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    return column.icontains(text, autoescape=True)


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.statuses is not None:
        found.append(_JOBS.c.status.in_(list(wanted.statuses)))
    if wanted.methods is not None:
        found.append(_JOBS.c.method.in_(list(wanted.methods)))
    if wanted.model is not None:
        found.append(or_(_JOBS.c.model == wanted.model, _JOBS.c.base == wanted.model, _JOBS.c.fine_tuned_model == wanted.model))
    if wanted.search is not None:
        columns = (_JOBS.c.id, _JOBS.c.suffix, _JOBS.c.model, _JOBS.c.base, _JOBS.c.fine_tuned_model)
        pairs = func.json_each(_JOBS.c.metadata).table_valued("key", "value")
        noted = exists().where(_contains(pairs.c.key, wanted.search) | _contains(pairs.c.value, wanted.search)).correlate(_JOBS)
        found.append(or_(*(_contains(column, wanted.search) for column in columns), noted))
    return found
