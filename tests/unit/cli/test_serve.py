"""What a server does before it answers anybody."""

import time
from pathlib import Path
from typing import Any

from luthier.api.job_rows import job_row
from luthier.cli.serve import end_old_leases
from luthier.core.jobs import JobStatus
from luthier.core.settings import Settings
from luthier.jobs.queue import JobQueue
from luthier.storage.database import Database, migrate
from luthier.storage.job_overview import JobOverview
from luthier.storage.jobs import JobStore
from tests.support.office import new_job, note


def test_no_estimate_outlives_the_server_that_made_it(tmp_path: Path) -> None:
    settings, now = Settings(data_dir=tmp_path), time.time()
    migrate(settings.state_database)
    database = Database(settings.state_database)
    jobs, overview = JobStore(database), JobOverview(database)
    job = jobs.insert(new_job(status=JobStatus.RUNNING), [note("Created")])
    leased = JobQueue(database).lease("killed", [JobStatus.RUNNING])
    assert leased is not None
    jobs.update(job.id, fence=leased.fence, changes={"estimated_finish": int(now) + 600})

    def row() -> dict[str, Any]:
        found = jobs.get(job.id)
        assert found is not None
        return job_row(found, now=int(now), places=overview.places(now))

    before = row()
    assert (before["eta_seconds"], before["queue_place"]) == (600, None)

    end_old_leases(settings)

    after = row()
    assert (after["status"], after["eta_seconds"], after["queue_place"]) == ("running", None, 1)
    database.close()
