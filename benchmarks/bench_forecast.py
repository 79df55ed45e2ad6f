"""The forecast against five real jobs that were fixed before it was written: time within 20 % for four of them, memory within 10 %.

What it does: for each job the forecast first, as ``luthier jobs forecast`` makes it, then the job on a real server; both beside each
other. What it does not: part of ``make bench`` (it takes about fifteen minutes). Run it on a quiet machine:
``python -m benchmarks.bench_forecast [part of a name ...]``; with names nothing is recorded.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bench_training import trace_of
from benchmarks.forecast_jobs import JOBS, BenchJob, write_model
from benchmarks.measured import Server, record, serving

POLL_SECONDS = 0.2
TIME_BOUND, MEMORY_BOUND = 0.20, 0.10


def forecast_of(job: BenchJob, files: tuple[Path, Path | None], model: Path | None) -> dict[str, Any]:
    """What the command's process says, from local files, without a server."""
    command = [sys.executable, "-m", "luthier.worker.forecast_job", "--training-file", str(files[0])]
    command += ["--model", job.model if model is None else str(model), "--adapter", job.adapter]
    command += [] if files[1] is None else ["--validation-file", str(files[1])]
    options = {**job.hyperparameters, **job.options}
    command += [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    # The server's processes are limited alike (``cli/serve.py``).
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout
    return json.loads(answer.splitlines()[-1])["forecast"]["forecast"]


def run_job(server: Server, job: BenchJob, files: tuple[Path, Path | None]) -> list[dict[str, Any]]:
    """The real job; returns its trace."""
    client = server.client()

    def upload(path: Path) -> str:
        return client.files.create(file=(path.name, io.BytesIO(path.read_bytes())), purpose="fine-tune").id

    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {**job.hyperparameters}}}
    extra: dict[str, Any] = {} if files[1] is None else {"validation_file": upload(files[1])}
    made = client.fine_tuning.jobs.create(
        model=job.model,
        training_file=upload(files[0]),
        seed=0,
        method=method,
        extra_body={"luthier": {"adapter": job.adapter, **job.options}},
        **extra,
    )
    while (made := client.fine_tuning.jobs.retrieve(made.id)).finished_at is None:
        time.sleep(POLL_SECONDS)
    if made.status != "succeeded":
        raise SystemExit(f"{job.name} ended as {made.status}: {made.error}")
    return trace_of(client, made.id)


def compared(forecast: dict[str, Any], trace: list[dict[str, Any]]) -> dict[str, Any]:
    """Forecast beside actual."""
    events = {kind: [e["data"] for e in trace if e["type"] == kind] for kind in ("ForecastChecked", "Forecasted", "StepDone")}
    actual = events["ForecastChecked"][-1]
    seconds, peak = forecast["seconds"], forecast["peak_bytes"]
    first = events["Forecasted"][0]["forecast"]
    return {
        "seconds": {"forecast": round(seconds["likely"], 1), "actual": round(actual["seconds"], 1)},
        "interval": [round(seconds["low"], 1), round(seconds["high"], 1)],
        "time_error": round(seconds["likely"] / actual["seconds"] - 1, 3),
        "megabytes": {"forecast": round(peak["likely"] / 1e6), "actual": round(actual["peak_bytes"] / 1e6)},
        "memory_error": round(peak["likely"] / actual["peak_bytes"] - 1, 3),
        "tokens": {"forecast": forecast["tokens"], "actual": actual["tokens"]},
        "steps": {"forecast": forecast["total_steps"], "actual": len(events["StepDone"])},
        "by_formula": {
            "seconds": round(first["seconds"]["likely"], 1),
            "megabytes": round(first["peak_bytes"]["likely"] / 1e6),
            "memory_error": round(first["peak_bytes"]["likely"] / actual["peak_bytes"] - 1, 3),
        },
        "by_first_steps": round(actual["forecast_seconds"][1], 1) if actual["basis"] == "first_steps" else None,
    }


def main() -> None:
    """Measure, and record when all jobs were run."""
    asked = sys.argv[1:]
    jobs = [job for job in JOBS if not asked or any(part in job.name for part in asked)]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as name:
        models = {job.model: Path(name) / job.model for job in jobs if job.shape is not None}
        for job in jobs:
            if job.shape is not None and not models[job.model].exists():
                write_model(models[job.model], job.shape)
        all_files: dict[str, tuple[Path, Path | None]] = {}
        forecasts: dict[str, dict[str, Any]] = {}

        def add_bases(data_dir: Path) -> None:
            for model, folder in models.items():
                add = [sys.executable, "-m", "luthier.worker.add_base", str(folder), "--name", model]
                subprocess.run(add, check=True, env={**os.environ, "LUTHIER_DATA_DIR": str(data_dir)})

        for number, job in enumerate(jobs):
            folder = Path(name) / f"files-{number}"
            folder.mkdir()
            all_files[job.name] = job.write_files(folder)
            # One server for each job: the engine of a long-lived one keeps the models of those before.
            forecasts[job.name] = forecast_of(job, all_files[job.name], models.get(job.model))
            with serving(add_bases) as server:
                results[job.name] = compared(forecasts[job.name], run_job(server, job, all_files[job.name]))
            print(job.name, json.dumps(results[job.name], indent=1), flush=True)
    near = sum(abs(result["time_error"]) <= TIME_BOUND for result in results.values())
    lean = sum(abs(result["memory_error"]) <= MEMORY_BOUND for result in results.values())
    print(f"\ntime within {TIME_BOUND:.0%}: {near} of {len(results)}; memory within {MEMORY_BOUND:.0%}: {lean} of {len(results)}")
    if not asked:
        record("forecast", {**results, "within": {"time": near, "memory": lean, "jobs": len(results)}})


if __name__ == "__main__":
    main()
