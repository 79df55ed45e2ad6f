"""Weights & Biases' importer, `WandbLogger.sync`, waits for a fine-tuning job and logs its metrics, files and model, offline."""

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


def logged_table(folder: Path, name: str) -> list[list[str]]:
    """The rows of a table in the run's folder."""
    (path,) = folder.glob(f"offline-run-*/files/media/table/{name}_*.table.json")
    return json.loads(path.read_text(encoding="utf-8"))["data"]


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
        said = WandbLogger.sync(fine_tune_job_id=job.id, project="luthier", mode="offline")
        run = WandbLogger._run
        tables = {name: logged_table(Path(folder) / "wandb", f"{name}_data") for name in ("train", "valid")}
        size = sum(path.stat().st_size for path in Path(folder).glob("wandb/offline-run-*/*.wandb"))
    job = client.fine_tuning.jobs.retrieve(job.id)
    print(f"{said}; job {job.id}: {job.status}, wandb {wandb.__version__}")
    if run is None or run.id != job.id:
        sys.exit("there is no run, or it does not have the job's id")

    result = base64.b64decode(client.files.content(job.result_files[0]).read()).decode()
    steps = list(csv.DictReader(result.splitlines()))
    summary = {key: run.summary.get(key) for key in ("status", "fine_tuned_model", "train_loss", "valid_mean_token_accuracy")}
    print(f"logged: {len(steps)} steps, last {summary}, {size} bytes")
    print(f"tables: {len(tables['train'])} training rows, {len(tables['valid'])} validation rows; first: {tables['train'][0]}")
    if summary["status"] != "succeeded" or summary["fine_tuned_model"] != job.fine_tuned_model:
        sys.exit(f"the run's summary is {summary}, the job's model {job.fine_tuned_model}")
    if abs(float(summary["train_loss"]) - float(steps[-1]["train_loss"])) > 1e-9:
        sys.exit(f"the run's last train_loss is {summary['train_loss']}, the result file's {steps[-1]}")
    if tables != {"train": train, "valid": valid}:
        sys.exit(f"the logged tables are not the uploaded rows: {tables}")
    if run.config["hyperparameters"]["n_epochs"] != 4 or run.config["n_train"] != len(train):
        sys.exit(f"the run's config is {dict(run.config)}")


if __name__ == "__main__":
    main()
