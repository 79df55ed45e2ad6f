"""Eight small jobs on one base: together in one process, one after another, and in a process each.

Each job has its own rows, rank and rate. Measured from outside: seconds from the first job's creation to the last one's success, the most
memory that the worker's processes take together, and their processor time. What it does not: compare losses with those of a run alone
(``tests/e2e/test_group.py`` does, bit for bit); here they must be equal in all three arrangements, else the work was not the same.

Memory is the sum over the worker's process and all below it, at one moment, looked at four times a second. PSS counts a page that n
processes share as 1/n of a page in each, so that the sum is what the machine has to hold; RSS counts it n times, and is recorded beside it.
The processes that train (below the fork server) are also added up alone: the rest is the same in all arrangements.

Run: ``python -m benchmarks.bench_many_jobs``; ``--quick`` for a look, which records nothing; ``--gpu`` where there is one.
"""

import argparse
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psutil

from benchmarks.bench_training import rows
from benchmarks.measured import Server, machine, median, record, serving, spread

JOBS = 8
RANKS = (4, 8, 16, 32, 8, 16, 4, 8)
RATES = (1.0, 0.5, 2.0, 1.0, 0.3, 1.0, 3.0, 2.0)
BATCH_SIZE = 8
EPOCHS, QUICK_EPOCHS = 8, 1
REPEATS = 2
ARRANGEMENTS: Mapping[str, Mapping[str, str]] = {
    "one process": {"LUTHIER_GROUP_JOBS": str(JOBS), "LUTHIER_TRAIN_PROCESSES": "1"},
    "one after another": {"LUTHIER_GROUP_JOBS": "1", "LUTHIER_TRAIN_PROCESSES": "1"},
    "eight processes": {"LUTHIER_GROUP_JOBS": "1", "LUTHIER_TRAIN_PROCESSES": str(JOBS)},
}
TIME_BOUND, GPU_TIME_BOUND, MEMORY_BOUND = 1.0, 0.4, 0.25
"""Of one process: its time by that of one after another (on a CPU and on a GPU), its memory by that of eight processes."""
LOOK_SECONDS, POLL_SECONDS = 0.25, 0.2
DEADLINE_SECONDS = 1800.0
MEGABYTE = 1e6


@dataclass(slots=True, kw_only=True)
class Seen:
    """The worker's processes while a block ran."""

    peaks: dict[str, float] = field(default_factory=dict)
    """Most memory at one moment, MB, by what was added up."""
    processor: dict[int, float] = field(default_factory=dict)
    """Seconds by process, as last seen."""

    def look(self, worker: psutil.Process) -> None:
        """Add up what the processes take now."""
        total: dict[str, float] = {"worker_pss": 0.0, "worker_rss": 0.0, "training_pss": 0.0, "training_rss": 0.0}
        for process, trains in _below(worker):
            with contextlib.suppress(psutil.Error, OSError):
                pss, rss = _pss_megabytes(process.pid), process.memory_info().rss / MEGABYTE
                times = process.cpu_times()
                self.processor[process.pid] = times.user + times.system
                for who in ("worker", "training") if trains else ("worker",):
                    total[f"{who}_pss"] += pss
                    total[f"{who}_rss"] += rss
        for name, value in total.items():
            self.peaks[name] = max(self.peaks.get(name, 0.0), value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One arrangement, once."""

    seconds: float
    seen: Seen
    losses: tuple[float, ...]
    """Of each job's last step."""


def _below(worker: psutil.Process) -> Iterator[tuple[psutil.Process, bool]]:
    """The worker and all below it; True for those that the fork server made, which do the jobs' work."""
    yield worker, False
    with contextlib.suppress(psutil.NoSuchProcess):
        for helper in worker.children():
            yield helper, False
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in helper.children(recursive=True):
                    yield child, True


def _pss_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    return 0.0


@contextmanager
def watched(server: Server) -> Iterator[Seen]:
    """Look at the worker's processes while the block runs."""
    (worker,) = (p for p in psutil.Process(server.process.pid).children() if "luthier.worker.main" in " ".join(p.cmdline()))
    seen, over = Seen(), threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_SECONDS):
            seen.look(worker)

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run_once(settings: Mapping[str, str], epochs: int, *, warm: bool = False) -> Run:
    """All jobs on a fresh server. ``warm``: it has had a small job before, so that starting CUDA for the first time is nobody's time."""
    examples = rows()
    size = len(examples) // JOBS
    with serving(settings=settings) as server:
        client = server.client()
        files = []
        for number in range(JOBS):
            content = "".join(json.dumps(row) + "\n" for row in examples[number * size : (number + 1) * size]).encode()
            files.append(client.files.create(file=(f"{number}.jsonl", io.BytesIO(content)), purpose="fine-tune").id)
        if warm:
            _wait(client, [_create(client, files[0], 0, 1)])
        with watched(server) as seen:
            began = time.monotonic()
            jobs = [_create(client, file, number, epochs) for number, file in enumerate(files)]
            _wait(client, jobs)
            seconds = time.monotonic() - began
        return Run(seconds=seconds, seen=seen, losses=tuple(_last_loss(client, job) for job in jobs))


def _create(client: openai.OpenAI, file_id: str, number: int, epochs: int) -> str:
    hyperparameters: Any = {"n_epochs": epochs, "batch_size": BATCH_SIZE, "learning_rate_multiplier": RATES[number]}
    return client.fine_tuning.jobs.create(
        model="luthier-mini",
        training_file=file_id,
        seed=number,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        extra_body={"luthier": {"rank": RANKS[number]}},
    ).id


def _wait(client: openai.OpenAI, jobs: list[str]) -> None:
    """Until all have succeeded; one request a look, so that looking costs the same in every arrangement."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        found = {job.id: job for job in client.fine_tuning.jobs.list(limit=100).data}
        for job_id in jobs:
            if found[job_id].status in ("failed", "cancelled"):
                raise SystemExit(f"{job_id} ended as {found[job_id].status}: {found[job_id].error}")
        if all(found[job_id].status == "succeeded" for job_id in jobs):
            return
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"the jobs were not done within {DEADLINE_SECONDS:.0f} s")


def _last_loss(client: openai.OpenAI, job_id: str) -> float:
    loss = client.fine_tuning.jobs.checkpoints.list(job_id).data[0].metrics.train_loss
    assert loss is not None
    return loss


def summary(runs: list[Run]) -> dict[str, Any]:
    """One arrangement's figures: medians of its runs."""
    seconds = [run.seconds for run in runs]
    return {
        "seconds": median(seconds, 1),
        "processor_seconds": median([sum(run.seen.processor.values()) for run in runs], 1),
        **{f"{name}_mb": round(median([run.seen.peaks[name] for run in runs], 6)) for name in runs[0].seen.peaks},
        "spread": spread(seconds),
    }


def _compared(losses: list[tuple[float, ...]]) -> dict[str, Any]:
    """Whether all runs had the same work: equal on a CPU, up to rounding on a GPU."""
    apart = max(abs(a - b) / b for run in losses for a, b in zip(run, losses[0], strict=True))
    return {"equal": len(set(losses)) == 1, "apart": round(apart, 5)}


def main() -> None:
    """Measure all arrangements in turn, and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epoch, once; nothing is recorded")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each job; figures of other numbers are not compared with each other")
    parser.add_argument("--gpu", action="store_true", help="on a GPU, whose memory is not in these figures: no eight processes")
    parser.add_argument("--out", type=Path, help="where to write the results instead of the baselines")
    options = parser.parse_args()
    epochs, repeats = (QUICK_EPOCHS, 1) if options.quick else (options.epochs, options.repeats)
    arrangements = dict(list(ARRANGEMENTS.items())[:2]) if options.gpu else ARRANGEMENTS
    runs: dict[str, list[Run]] = {name: [] for name in arrangements}
    for _ in range(repeats):
        for name, settings in arrangements.items():
            run = run_once(settings, epochs, warm=options.gpu)
            runs[name].append(run)
            print(f"{name}: {run.seconds:.1f} s, {run.seen.peaks['training_pss']:.0f} MB in the processes that train", flush=True)
    results: dict[str, Any] = {name: summary(found) for name, found in runs.items()}
    one = results["one process"]
    results["time by one after another"] = {
        "ratio": round(one["seconds"] / results["one after another"]["seconds"], 3),
        "processor_ratio": round(one["processor_seconds"] / results["one after another"]["processor_seconds"], 3),
        "bound": GPU_TIME_BOUND if options.gpu else TIME_BOUND,
    }
    if "eight processes" in results:
        eight = results["eight processes"]
        results["memory by eight processes"] = {
            "pss_ratio": round(one["training_pss_mb"] / eight["training_pss_mb"], 3),
            "rss_ratio": round(one["training_rss_mb"] / eight["training_rss_mb"], 3),
            "bound": MEMORY_BOUND,
        }
    results["losses"] = _compared([run.losses for found in runs.values() for run in found])
    results["jobs"] = {"count": JOBS, "rows": len(rows()) // JOBS, "epochs": epochs, "batch_size": BATCH_SIZE}
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine(), "results": results}, indent=2) + "\n")
    if options.quick or options.out is not None:
        print(json.dumps(results, indent=2))
    else:
        record("many-jobs", results)


if __name__ == "__main__":
    main()
