"""How old a metric point is when a listener hears it: seconds between a step's own time in the log and its arrival over the live stream.

What it does: one small job on a real server, one listener on the stream that a dashboard's tab has; median and worst of all steps. What
it does not: draw anything. The bound is one second. Run: ``python -m benchmarks.bench_stream``.
"""

import io
import json
import time
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.measured import Server, median, record, serving
from luthier.core.settings import PACKAGE_DIR

EXAMPLE = Path(PACKAGE_DIR).parents[1] / "examples" / "translate-en-fr" / "train.jsonl"


def ages(server: Server) -> list[float]:
    """Seconds, one for each step."""
    client = server.client()
    file_id = client.files.create(file=("train.jsonl", io.BytesIO(EXAMPLE.read_bytes())), purpose="fine-tune").id
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 4}}}
    job = client.fine_tuning.jobs.create(model="luthier-mini", training_file=file_id, seed=0, method=method)
    found: list[float] = []
    headers = {"authorization": f"Bearer {server.key}"}
    with (
        httpx2.Client(base_url=server.url, headers=headers, timeout=60.0) as http,
        http.stream("GET", f"/v1/luthier/stream?job={job.id}") as answer,
    ):
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event.get("type") == "StepDone":
                found.append(time.time() - event["time"])
            if event.get("type") == "RunFinished":
                return found
    raise SystemExit("The stream ended before the job.")


def main() -> None:
    """Measure and record."""
    with serving() as server:
        found = sorted(ages(server))
    results = {
        "steps": len(found),
        "median_s": median(found),
        "within_95_percent_s": round(found[int(0.95 * (len(found) - 1))], 3),
        "worst_s": round(found[-1], 3),
    }
    print(json.dumps(results))
    record("stream", results)


if __name__ == "__main__":
    main()
