"""Weights & Biases' importer, `WandbLogger.sync`, waits for a fine-tuning job and logs its metrics, numbers and model, offline."""

import base64
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

# The importer looks for an earlier run on W&B's server before it writes one. There is none here, and the address it asks
# answers 404, so nothing leaves the machine. The importer refuses to start without a key; this one is not a real one.
os.environ.setdefault("WANDB_API_KEY", "0" * 40)
os.environ.setdefault("WANDB_BASE_URL", os.environ["OPENAI_BASE_URL"].removesuffix("/v1"))

import openai
import wandb
from wandb.integration.openai.fine_tuning import WandbLogger
from wandb.proto.wandb_internal_pb2 import Record
from wandb.sdk.internal.datastore import DataStore

FOLDER = Path(__file__).resolve().parents[2] / "translate-en-fr"
SYSTEM = "You translate."


def chats(name: str, count: int) -> list[list[str]]:
    """The first rows as the importer's tables hold them: what system, user and assistant say."""
    rows = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()[:count]]
    return [[SYSTEM, row["prompt"], row["completion"]] for row in rows]


def upload(client: openai.OpenAI, name: str, rows: list[list[str]]) -> str:
    """Upload rows as chats; returns the file's id."""
    roles = ("system", "user", "assistant")
    lines = [{"messages": [{"role": role, "content": text} for role, text in zip(roles, row, strict=True)]} for row in rows]
    content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    return client.files.create(file=(name, content), purpose="fine-tune").id


def logged(path: Path) -> tuple[list[dict[str, float]], dict[str, object]]:
    """What the run's file holds: the metrics of every step, and the summary."""
    store, steps, summary = DataStore(), [], {}
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            steps.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
        for item in record.summary.update:
            summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return steps, summary


def main() -> None:
    """Do it, and leave with a sentence where something is not as it should be."""
    client = openai.OpenAI()
    train, valid = chats("train.jsonl", 10), chats("valid.jsonl", 10)
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-mini-2024-07-18",
        training_file=upload(client, "train.jsonl", train),
        validation_file=upload(client, "valid.jsonl", valid),
        suffix="wandb",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4}}},
        integrations=[{"type": "wandb", "wandb": {"project": "luthier"}}],
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WANDB_DIR"] = folder
        said = WandbLogger.sync(fine_tune_job_id=job.id, project="luthier", mode="offline", log_datasets=False)
        run = WandbLogger._run
        wandb.teardown()  # its process writes the file; now it is whole
        (path,) = Path(folder).glob(f"wandb/offline-run-*/run-{job.id}.wandb")
        steps, summary = logged(path)
    job = client.fine_tuning.jobs.retrieve(job.id)
    print(f"{said}; job {job.id}: {job.status}, model {job.fine_tuned_model}")
    if run is None or run.id != job.id:
        sys.exit(f"there is no run with the job's id: {run}")

    result = list(csv.DictReader(base64.b64decode(client.files.content(job.result_files[0]).read()).decode().splitlines()))
    print(f"logged: {len(steps)} steps, train_loss {steps[0]['train_loss']:.2f} to {steps[-1]['train_loss']:.2f}")
    columns = ("train_loss", "train_accuracy", "valid_loss")
    wanted = [{name: float(row[name]) for name in columns if row.get(name)} for row in result]
    if [{name: step[name] for name in columns if name in step} for step in steps] != wanted:
        sys.exit(f"the logged steps are not those of the job's result file:\n{steps}\n{wanted}")
    if (summary["status"], summary["fine_tuned_model"]) != ("succeeded", job.fine_tuned_model):
        sys.exit(f"the run's summary is {summary}, the job's model {job.fine_tuned_model}")
    if run.config["hyperparameters"]["n_epochs"] != 4 or run.config["training_file"] != job.training_file:
        sys.exit(f"the run's config is {dict(run.config)}")


if __name__ == "__main__":
    main()
