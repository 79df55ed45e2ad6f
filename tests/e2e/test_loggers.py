"""Loggers that hang, raise or are not there: the job neither waits for them nor fails, and says so once for each."""

import os
import time
from pathlib import Path
from typing import Any

from tests.e2e.test_main_job import all_events, run_job
from tests.support.examples import prompt_completion_file
from tests.support.server import ServerProcess

HANGS = "import time\ntime.sleep(600)\n"
RAISES = "raise RuntimeError('no route to host')\n"
ABSENT = "raise ImportError('No module named wandb')\n"


def test_a_job_ends_well_whatever_its_loggers_do(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for name, code in (("trackio.py", HANGS), ("mlflow/__init__.py", RAISES), ("wandb.py", ABSENT)):
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_text(code)
    environ: dict[str, Any] = {
        "LUTHIER_TRACKIO_PROJECT": "p",
        "LUTHIER_MLFLOW_URI": "http://127.0.0.1:9",
        "LUTHIER_LOGGER_GRACE_SECONDS": "1",
        "PYTHONPATH": os.pathsep.join([str(broken), os.environ.get("PYTHONPATH", "")]),
    }
    server = ServerProcess(tmp_path / "data", **environ).start()
    try:
        wandb = [{"type": "wandb", "wandb": {"project": "p"}}]
        numbers = {"n_epochs": 1, "batch_size": 4}
        job = run_job(server, prompt_completion_file(16), None, seed=1, hyperparameters=numbers, integrations=wandb)
        assert job.status == "succeeded", (job.error, server.logs())
        client = server.client()
        warnings: list[str] = []
        while len(warnings) < 3:  # the test's own time limit ends it
            time.sleep(0.2)
            warnings = sorted(e.message for e in all_events(client, job.id) if e.level == "warn")
        assert [text.partition(" was not told everything of this job: ")[0] for text in warnings] == [
            "MLflow",
            "Weights & Biases",
            "trackio",
        ]
        assert "no route to host" in warnings[0]
        assert "pip install 'luthier[wandb]'" in warnings[1]
        assert "1 s after the job's end" in warnings[2]
    finally:
        server.stop()
