"""instructor's command line uploads two files, trains on them, shows the job until it is done, and cancels another."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import openai

BASE = "gpt-4o-mini-2024-07-18"
FOLDER = Path(__file__).resolve().parents[2] / "translate-en-fr"
COMMAND = Path(sys.executable).with_name("instructor")
WIDE = {**os.environ, "COLUMNS": "260"}  # its tables cut what does not fit


def chats(name: str, count: int, path: Path) -> list[dict[str, str]]:
    """Write the first rows as chats, one JSON object a line; returns the rows."""
    rows = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()[:count]]
    lines = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]} for row in rows
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return rows


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start `instructor jobs ...`, which watches its job without end; returns the process and the id it prints."""
    process = subprocess.Popen([COMMAND, "jobs", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=WIDE)
    seen = []
    for line in process.stdout or ():
        seen.append(line)
        if found := re.search(r"created with ID:\s*(ftjob-\w+)", line):
            return process, found.group(1)
    sys.exit(f"instructor jobs {arguments[0]} ended with {process.wait()}:\n{''.join(seen)}")


def interrupt(process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C, as its table tells a person to; returns what it printed last, the table."""
    time.sleep(5)  # it asks for the jobs every two seconds: the table that it leaves is of after the end
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def run(*arguments: str) -> str:
    """Run another of its commands to the end; returns what it printed."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=True, env=WIDE, timeout=120).stdout


def main() -> None:
    """Do it, and leave with a sentence where something is not as it should be."""
    client = openai.OpenAI()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # started in the background, Ctrl-C would be ignored, here and in children
    with tempfile.TemporaryDirectory() as folder:
        train, valid = Path(folder) / "train.jsonl", Path(folder) / "valid.jsonl"
        rows = chats("train.jsonl", 10, train)
        chats("valid.jsonl", 10, valid)
        options = [
            "--model",
            BASE,
            "--n-epochs",
            "8",
            "--learning-rate-multiplier",
            "4",
            "--model-suffix",
            "instructor",
            "--validation-file",
            str(valid),
        ]
        watching, job_id = start("create-from-file", str(train), *options)
    print(f"instructor jobs create-from-file: {job_id}")
    while not (job := client.fine_tuning.jobs.retrieve(job_id)).finished_at:
        time.sleep(0.5)
    table = interrupt(watching)
    row = next((line for line in table.splitlines() if job_id in line), "")
    print(f"instructor's table: {' | '.join(cell.strip() for cell in row.split('│') if cell.strip())}")
    if not job.fine_tuned_model or "succeeded" not in row or job.fine_tuned_model not in row or " 8 " not in row:
        sys.exit(f"the job is {job.status}, its model {job.fine_tuned_model}; instructor showed:\n{table}")

    watching, second = start("create-from-id", job.training_file, "--model", BASE)
    print(" ".join(run("jobs", "cancel", second).split()[1:5]))
    interrupt(watching)
    if (status := client.fine_tuning.jobs.retrieve(second).status) != "cancelled":
        sys.exit(f"instructor jobs cancel left {second} as {status}")

    if job.training_file not in (listed := run("files", "list")) or str(job.validation_file) not in listed:
        sys.exit(f"instructor files list does not show the files:\n{listed}")
    print(f"instructor files list: {listed.count('fine-tune')} files to train on")

    answers = [
        client.chat.completions.create(
            model=job.fine_tuned_model, messages=[{"role": "user", "content": row["prompt"]}], temperature=0, max_tokens=24
        )
        for row in rows
    ]
    right = sum(a.choices[0].message.content == row["completion"] for a, row in zip(answers, rows, strict=True))
    print(f"tuned model: {right} of {len(rows)} training rows answered word for word")
    if right < 8:
        sys.exit("the tuned model has not learned its rows")


if __name__ == "__main__":
    main()
