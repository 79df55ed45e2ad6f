"""Which jobs use a file: all of them are asked, not the newest page."""

from luthier.core.jobs import JobStatus
from luthier.storage.database import Database
from luthier.storage.job_overview import NAMED, JobOverview
from luthier.storage.jobs import JobStore
from tests.support.office import new_job, note


def _insert(database: Database, project: str = "proj_default", **values: object) -> str:
    job = new_job(**values)
    JobStore(database).in_project(project).insert(job, [note("Created")])
    return job.id


def test_every_job_of_a_file_counts_and_the_unfinished_are_named_first(database: Database) -> None:
    oldest = _insert(database, training_file="file-a", validation_file="file-v", status=JobStatus.RUNNING, suffix="old")
    done = [_insert(database, training_file="file-a", status=JobStatus.SUCCEEDED) for _ in range(600)]
    both = _insert(database, training_file="file-b", validation_file="file-b", status=JobStatus.FAILED)
    _insert(database, "proj_other", training_file="file-a", status=JobStatus.QUEUED)
    overview = JobOverview(database).in_project("proj_default")
    uses = {use.file_id: use for use in overview.uses()}
    assert set(uses) == {"file-a", "file-v", "file-b"}
    assert (uses["file-a"].jobs, uses["file-a"].unfinished) == (601, 1)
    assert uses["file-a"].named[0] == (oldest, "old", "running")
    assert [id for id, _, _ in uses["file-a"].named[1:]] == done[: -len(done) - 1 : -1][: NAMED - 1]
    assert (uses["file-v"].jobs, uses["file-v"].named) == (1, ((oldest, "old", "running"),))
    # Both files of one job are the same: one job.
    assert (uses["file-b"].jobs, uses["file-b"].unfinished, uses["file-b"].named) == (1, 0, ((both, None, "failed"),))
    for file_id, use in uses.items():
        assert overview.uses(file_id) == [use]
    assert overview.uses("file-none") == []
    assert sum(use.jobs for use in JobOverview(database).uses("file-a")) == 602
