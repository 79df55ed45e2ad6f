"""What the dashboard asks of the server: charts of ten runs of a million steps, the views of two, pages of a list of 5,000 jobs.

What it does: a real server over a database of 5,000 finished jobs, ten of which have a million steps in their level files, as a run writes
them, and two of these a log as well, one with its story and one from before there were stories; timed over HTTP, medians and the slowest
of the repeats. A view is kept once it is made, so that each is asked for once. What it does not: draw (the browser's part), or train.

Run: ``python -m benchmarks.bench_dashboard [--steps N]``. The bound for the ten charts together is one second.
"""

import argparse
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.large_database import build
from benchmarks.measured import Server, median, record, serving
from luthier.core.stage import Stage
from luthier.trace.events import EpochDone, StepDone, TraceEvent
from luthier.trace.levels import FAN, FOLDER, LEVELS, RECORD, summed_up
from luthier.trace.story import LOG, write_story
from luthier.trace.writer import encode_event

JOBS, RUNS, STEPS, REPEATS, EPOCHS = 5_000, 10, 1_000_000, 7, 10
POINTS = 2000
BOUND_SECONDS = 1.0


def write_levels(run_dir: Path, steps: int, seed: int) -> None:
    """A falling, noisy loss in all levels."""
    folder = run_dir / FOLDER
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    records = np.zeros(steps, dtype=RECORD)
    loss = 3.0 / np.sqrt(1 + np.arange(steps) / 1000) + draw.normal(0, 0.1, steps)
    records["count"] = 1
    for name in ("low", "mean", "high"):
        records[name] = loss
    records["accuracy"], records["learning_rate"], records["grad_norm"], records["tokens_per_second"] = 0.9, 1e-4, 1.0, 1000.0
    for level in range(LEVELS):
        (folder / str(level)).write_bytes(records.tobytes())
        records = summed_up(records[: len(records) // FAN * FAN], FAN)


def write_log(run_dir: Path, steps: int) -> None:
    """A log of ten epochs, as a run writes it."""
    done = StepDone(
        step=1, total_steps=steps, epoch=1, loss=1.0, token_accuracy=0.9, num_tokens=64, learning_rate=1e-4, grad_norm=1.0, seconds=0.05,
        lines=tuple(range(101, 109)), tokens=512, tokens_per_second=1000.0, padding_share=0.1, memory_bytes=400_000_000,
    )  # fmt: skip
    each = steps // EPOCHS
    with (run_dir / LOG).open("wb") as file:
        number = 0
        for step in range(1, steps + 1):
            number += 1
            epoch = 1 + (step - 1) // each
            file.write(encode_event(_event(number, replace(done, step=step, epoch=epoch, loss=3.0 / (1 + step / 1000) ** 0.5))))
            if step % each == 0:
                number += 1
                loss = 1.0 / epoch
                ended = EpochDone(
                    epoch=epoch, n_epochs=EPOCHS, step=step, train_loss=loss, train_accuracy=0.9, valid_loss=loss, valid_accuracy=0.9,
                    sample_loss=loss, seconds=each * 0.05,
                )  # fmt: skip
                file.write(encode_event(_event(number, ended)))


def _event(number: int, payload: StepDone | EpochDone) -> TraceEvent:
    return TraceEvent(id=number, run="ftjob-long", attempt=1, time=1.7e9 + number, stage=Stage.TRAINING, payload=payload)


def view(http: httpx2.Client, job: str, steps: int) -> float:
    """Seconds for everything but the chart of a job's page."""
    began = time.perf_counter()
    answer = http.get(f"/luthier/jobs/{job}/view")
    assert answer.status_code == 200, answer.text
    assert answer.json()["step_count"] == steps
    return time.perf_counter() - began


def news(http: httpx2.Client, job: str, after: int) -> float:
    """Seconds until a page that knows the log up to this id has what came after it."""
    began = time.perf_counter()
    answer = http.get(f"/luthier/jobs/{job}/trace", params={"after": after})
    assert len(answer.json()["data"]) > 0, answer.text
    return time.perf_counter() - began


def ten_charts(http: httpx2.Client, jobs: list[str]) -> float:
    """Seconds for one chart of each run, one after another as a page asks for them."""
    began = time.perf_counter()
    for job in jobs:
        answer = http.get(f"/luthier/jobs/{job}/metrics", params={"points": POINTS})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["series"]["step"]) > POINTS // 2
    return time.perf_counter() - began


def uses(http: httpx2.Client) -> float:
    """Seconds of the jobs that use each file."""
    began = time.perf_counter()
    answer = http.get("/luthier/datasets/uses")
    assert answer.json()["data"], answer.text
    return time.perf_counter() - began


def page(http: httpx2.Client, **params: str | int) -> float:
    """Seconds of one page of the list."""
    began = time.perf_counter()
    answer = http.get("/luthier/jobs", params=params)
    assert answer.status_code == 200, answer.text
    return time.perf_counter() - began


def measure(server: Server, steps: int) -> dict[str, Any]:
    """All of it."""
    headers = {"authorization": f"Bearer {server.key}"}
    with httpx2.Client(base_url=server.url + "/v1", headers=headers, timeout=600.0) as http:
        jobs = [row["id"] for row in http.get("/luthier/jobs", params={"limit": RUNS, "sort": "created_at"}).json()["data"]]
        calls = {
            "ten charts of a million steps": lambda: ten_charts(http, jobs),
            "jobs, the first 100": lambda: page(http, limit=100),
            "jobs, 500 at once": lambda: page(http, limit=500),
            "jobs by held-out loss": lambda: page(http, limit=100, sort="best_valid_loss"),
            "jobs, searched": lambda: page(http, limit=100, search="team-7"),
            "data sets, who uses them": lambda: uses(http),
            "news of a log of a million steps": lambda: news(http, jobs[0], steps),
        }
        results: dict[str, Any] = {
            "view of a million steps, ms": round(1000 * view(http, jobs[0], steps), 1),
            "the same without its story, once, ms": round(1000 * view(http, jobs[1], steps), 1),
        }
        for name, call in calls.items():
            seconds = [call() for _ in range(REPEATS)]
            results[name] = {"median_ms": median([1000 * s for s in seconds], 1), "slowest_ms": round(1000 * max(seconds), 1)}
    return {**results, "target": {"ten charts, ms": 1000 * BOUND_SECONDS}}


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description="The dashboard's charts and lists")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each run; another number is not recorded")
    options = parser.parse_args()

    def prepare(data_dir: Path) -> None:
        database = data_dir / "state.db"
        build(database, jobs=JOBS, events_per_job=1)
        with sqlite3.connect(database) as connection:
            jobs = [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY seq LIMIT ?", (RUNS,))]
        for number, job in enumerate(jobs):
            write_levels(data_dir / "runs" / job, options.steps, number)
        for job in jobs[:2]:
            write_log(data_dir / "runs" / job, options.steps)
        write_story(data_dir / "runs" / jobs[0])

    with serving(prepare) as server:
        results = {"size": {"jobs": JOBS, "runs": RUNS, "steps": options.steps}, **measure(server, options.steps)}
    if options.steps == STEPS:
        record("dashboard", results)
    else:
        print(results)


if __name__ == "__main__":
    main()
