"""A database as it stands after years of use: many finished jobs with all their events and files.

What it does: fills a new, migrated SQLite file by set-wise SQL, ids as random as real ones. What it does not: make bytes of
files or run folders; nothing that it makes is waiting for a worker. Called by ``bench_load.py``; by hand:
``python -m benchmarks.large_database FILE``.
"""

import argparse
import sqlite3
from pathlib import Path

from luthier.storage.database import migrate

JOBS = 100_000
EVENTS_PER_JOB = 100
TEAMS = 50
"""Different values of the metadata key ``team``."""
RARE_EVERY = 20_000
"""Every so many jobs one has the metadata value ``rare``."""

_SERIES = "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < ?)"

_FILES = f"""{_SERIES}
INSERT INTO files (id, filename, purpose, bytes, sha256, created_at, status)
SELECT 'file-' || substr(hex(randomblob(11)), 1, 22), CASE WHEN n % 2 THEN 'train.jsonl' ELSE 'step_metrics.csv' END,
  CASE WHEN n % 2 THEN 'fine-tune' ELSE 'fine-tune-results' END, 100000 + n % 1000, lower(hex(randomblob(32))), 1700000000 + n * 30,
  'processed'
FROM series"""

_JOBS = f"""{_SERIES}
INSERT INTO jobs (id, created_at, model, base, status, training_file, training_sha256, method, legacy_hyperparameters, hyperparameters,
  options, seed, suffix, metadata, fine_tuned_model, finished_at, trained_tokens, result_files, cancel_requested, fence, attempts,
  progress_step)
SELECT 'ftjob-' || hex(randomblob(12)), 1700000000 + n * 60, 'gpt-4o-mini-2024-07-18', 'luthier-mini', 'succeeded',
  (SELECT id FROM files WHERE seq = 2 * n - 1), lower(hex(randomblob(32))), 'supervised', 0,
  '{{"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}}', '{{}}', n, 'demo',
  json_object('team', CASE WHEN n % {RARE_EVERY} = 0 THEN 'rare' ELSE 'team-' || (n % {TEAMS}) END),
  'ft:gpt-4o-mini-2024-07-18:luthier:demo:' || substr(hex(randomblob(4)), 1, 8), 1700000000 + n * 60 + 50, 30000,
  json_array((SELECT id FROM files WHERE seq = 2 * n)), 0, 2, 0, 100
FROM series"""

# By job and step, as runs write them.
_EVENTS = f"""{_SERIES}
INSERT INTO job_events (id, job_id, sequence, created_at, level, message, type, data)
SELECT 'ftevent-' || hex(randomblob(12)), jobs.id, n, jobs.created_at + n / 2, 'info',
  'Step ' || n || '/100: training loss=0.' || (10 + n % 90), 'metrics',
  '{{"step": ' || n || ', "total_steps": 100, "train_loss": 0.' || (1000 + n) || ', "train_mean_token_accuracy": 0.' || (7000 + n) || '}}'
FROM jobs CROSS JOIN series WHERE jobs.seq BETWEEN ? AND ?"""

_JOBS_PER_TRANSACTION = 10_000


def build(path: Path, *, jobs: int, events_per_job: int) -> int:
    """Make the file; returns its size in bytes."""
    migrate(path)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # A crash here costs a new build and nothing else.
        for pragma in ("synchronous = OFF", "journal_mode = MEMORY", "cache_size = -1500000", "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_FILES, (2 * jobs,))
        connection.execute(_JOBS, (jobs,))
        for start in range(1, jobs + 1, _JOBS_PER_TRANSACTION):
            connection.execute(_EVENTS, (events_per_job, start, start + _JOBS_PER_TRANSACTION - 1))
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    return path.stat().st_size


def counts(path: Path) -> dict[str, int]:
    """How many jobs, events and files there are."""
    connection = sqlite3.connect(path)
    try:
        # The largest ``seq``: nothing was ever removed, and counting ten million rows takes longer than a list may.
        names = {"jobs": "jobs", "events": "job_events", "files": "files"}
        return {name: connection.execute(f"SELECT max(seq) FROM {table}").fetchone()[0] for name, table in names.items()}
    finally:
        connection.close()


def main() -> None:
    """Build one by hand."""
    parser = argparse.ArgumentParser(description="Make a database with 100,000 jobs and 10 million events.")
    parser.add_argument("file", type=Path)
    print(f"{build(parser.parse_args().file, jobs=JOBS, events_per_job=EVENTS_PER_JOB) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
