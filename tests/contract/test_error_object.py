"""A healthy job's ``error``: an object of nulls unless the server is spec-strict (decision D1)."""

from pathlib import Path

import pytest

from tests.support.api_server import ApiServer


@pytest.mark.parametrize(("strict", "error"), [(False, {"code": None, "message": None, "param": None}), (True, None)])
def test_a_healthy_jobs_error(tmp_path: Path, rows: bytes, strict: bool, error: object) -> None:
    server = ApiServer(tmp_path / "data", spec_strict=strict)
    try:
        client = server.client()
        file = client.files.create(file=rows, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model="gpt-4.1-nano", training_file=file.id)
        with server.http() as http:
            assert http.get(f"/v1/fine_tuning/jobs/{job.id}").json()["error"] == error
        if not strict:
            assert job.error is not None
            assert job.error.message is None
    finally:
        server.stop()
