"""Each real library is told a run by the real process, and what it kept is read back. Skipped where a library is not installed."""

import importlib
import importlib.util
import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.trace.events import TraceEvent
from luthier.trace.writer import encode_event
from luthier.worker.loggers.targets import LoggerKind, LoggerTarget
from tests.support.trace_logs import RUN, whole_run

LOSSES = {1: 3.0, 2: 2.0, 3: 1.75, 4: 1.0}


def needs(name: str) -> pytest.MarkDecorator:
    extra = name.partition("_")[0]
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed: make test-loggers ({extra})")


def follow(tmp_path: Path, kind: LoggerKind, events: list[TraceEvent], **options: Any) -> None:
    """Tell these events, as one attempt at the job would."""
    run_dir = tmp_path / "run"
    run_dir.mkdir(exist_ok=True)
    with (run_dir / "trace.jsonl").open("ab") as log:
        log.write(b"".join(encode_event(event) for event in events))
    target = LoggerTarget(key=kind.value, kind=kind, options=options)
    command = [sys.executable, "-m", "luthier.worker.loggers.follower", "--target", target.to_json(), "--job", RUN]
    environ = {**os.environ, "WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "trackio")}
    found = subprocess.run(
        [*command, "--run-dir", str(run_dir), "--grace", "200"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environ,
        start_new_session=True,
        timeout=250,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def twice(tmp_path: Path, kind: LoggerKind, **options: Any) -> None:
    """The run in two attempts, as its log has them."""
    events = whole_run()
    cut = next(i for i, event in enumerate(events) if event.attempt == 2)
    follow(tmp_path, kind, events[:cut], **options)
    follow(tmp_path, kind, events[cut:], **options)


@needs("tensorboard")
def test_tensorboard(tmp_path: Path) -> None:
    twice(tmp_path, LoggerKind.TENSORBOARD, folder=str(tmp_path / "tb"))
    reader: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    tensors: Any = importlib.import_module("tensorboard.util.tensor_util")
    kept = reader.EventAccumulator(str(tmp_path / "tb" / RUN))
    kept.Reload()
    told = {e.step: float(tensors.make_ndarray(e.tensor_proto)) for e in kept.Tensors("train/loss")}
    assert told == LOSSES
    assert [e.step for e in kept.Tensors("evaluation/tuned_exact_match")] == [4]


@needs("mlflow")
def test_mlflow(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    twice(tmp_path, LoggerKind.MLFLOW, uri=uri, experiment="mine")
    tracking: Any = importlib.import_module("mlflow.tracking")
    client = tracking.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert {m.step: m.value for m in client.get_metric_history(run.info.run_id, "train/loss")} == LOSSES
    assert (run.info.status, run.info.run_name, run.data.tags["luthier.job"]) == ("FINISHED", RUN, RUN)
    assert run.data.params["learning_rate"] == "0.001"
    assert run.data.metrics["evaluation/better"] == 3


@needs("trackio")
def test_trackio(tmp_path: Path) -> None:
    twice(tmp_path, LoggerKind.TRACKIO, project="mine")
    with sqlite3.connect(tmp_path / "trackio" / "mine.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics").fetchall()
    assert {name for name, _, _ in rows} == {RUN}
    told = {step: json.loads(metrics)["train/loss"] for _, step, metrics in rows if "train/loss" in json.loads(metrics)}
    assert told == LOSSES


@needs("wandb")
def test_wandb_offline(tmp_path: Path) -> None:
    twice(tmp_path, LoggerKind.WANDB, project="mine", name="named", entity="us", tags=["a", "b"])
    files = sorted((tmp_path / "run" / "loggers" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2, "one file for each attempt; both are synced into one run"
    records = [record for file in files for record in wandb_records(file)]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {(r.run_id, r.project, r.display_name, r.entity, tuple(r.tags)) for r in runs} == {(RUN, "mine", "named", "us", ("a", "b"))}
    rows = [history_row(record.history) for record in records if record.WhichOneof("record_type") == "history"]
    assert {int(row["step"]): row["train/loss"] for row in rows if "train/loss" in row} == LOSSES
    config = {item.key: item.value_json for record in records for item in record.config.update}
    assert config["learning_rate"] == "0.001"
    summary = {item.key: item.value_json for record in records for item in record.summary.update}
    assert float(summary["evaluation/tuned_exact_match"]) == 0.75


def history_row(history: Any) -> dict[str, float]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in history.item}


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a W&B file: LevelDB's log format after a header of seven bytes, protobuf within."""
    proto: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, at, pending = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        pending += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            record = proto.Record()
            record.ParseFromString(pending)
            pending = b""
            yield record
