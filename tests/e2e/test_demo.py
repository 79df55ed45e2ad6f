"""The demo as a newcomer runs it: real training at default settings, the promised fall of loss, the promised answers."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luthier.cli.demo_data import asked_phrases
from luthier.trace.events import EpochDone
from luthier.trace.reader import read_events
from tests.support.examples import EXAMPLES
from tests.support.server import ServerProcess

ENVIRON = {"COLUMNS": "120", "PATH": ""}


@pytest.fixture(scope="module")
def output(server: ServerProcess) -> str:
    """What ``luthier demo`` prints against a running server."""
    command = [sys.executable, "-m", "luthier.cli.main", "demo", "--data-dir", str(server.data_dir)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=ENVIRON)
    assert result.returncode == 0, result.stdout + result.stderr + server.logs()
    return result.stdout


def the_job(server: ServerProcess) -> Any:
    return server.client().fine_tuning.jobs.list(limit=1).data[0]


def test_the_reference_run_is_reproduced(server: ServerProcess, output: str) -> None:
    job = the_job(server)
    events, _ = read_events(server.data_dir / "runs" / job.id / "trace.jsonl")
    epochs = [e.payload for e in events if isinstance(e.payload, EpochDone)]
    assert [e.epoch for e in epochs] == [1, 2, 3, 4, 5]
    assert 0.9 <= epochs[0].train_loss <= 2.0
    assert 0.5 <= epochs[0].train_accuracy <= 0.75
    assert epochs[4].train_loss <= 0.35
    assert epochs[4].train_accuracy >= 0.90
    assert all(b.train_loss <= a.train_loss and b.train_accuracy >= a.train_accuracy for a, b in itertools.pairwise(epochs))
    assert all(e.valid_loss is not None and e.valid_accuracy is not None for e in epochs)


def test_unseen_phrases_come_out_right_and_the_base_does_not_know_them(server: ServerProcess, output: str) -> None:
    client, job, phrases = server.client(), the_job(server), asked_phrases(EXAMPLES)
    assert [p.text for p in phrases[:2]] == ["Good morning", "Thank you"]
    assert len(phrases) == 12

    def answers(model: str) -> list[str]:
        ask = client.chat.completions.create
        texts = (ask(model=model, messages=[{"role": "user", "content": p.prompt}], temperature=0, max_tokens=32) for p in phrases)
        return [t.choices[0].message.content or "" for t in texts]

    tuned = [p.accepts(a) for p, a in zip(phrases, answers(job.fine_tuned_model), strict=True)]
    base = [p.accepts(a) for p, a in zip(phrases, answers("luthier-mini"), strict=True)]
    assert tuned[0]
    assert tuned[1]
    assert sum(tuned[2:]) >= 8
    assert sum(base) <= 2
    assert f"{sum(tuned)} of 12 right" in output
    assert f"{sum(base)} of 12 right" in output


def test_the_output_shows_the_five_stages_the_table_and_the_prediction(output: str) -> None:
    for text in ("Data collection", "Data preprocessing", "Fine-tuning training", "Evaluation", "Deployment", "held-out", "epoch"):
        assert text.lower() in output.lower()
    assert "six lines of Python" in output
    assert "<|user|>" in output


def test_the_trace_command_tells_the_same_story(server: ServerProcess, output: str) -> None:
    job = the_job(server)
    command = [sys.executable, "-m", "luthier.cli.main", "trace", job.id, "--data-dir", str(server.data_dir)]
    prompt = ["--prompt", "Translate to French: Good morning"]
    for extra in ([], prompt):
        result = subprocess.run([*command, *extra], capture_output=True, text=True, timeout=60, check=False, env=ENVIRON)
        assert result.returncode == 0, result.stderr
        assert "bonjour" in result.stdout.lower() if extra else "5/5" in result.stdout


def test_the_evaluation_is_kept_with_the_job(server: ServerProcess, output: str) -> None:
    report = json.loads((Path(server.data_dir) / "runs" / the_job(server).id / "evaluation.json").read_text())
    assert report["better"] + report["worse"] + report["same"] == report["n"] == 41
    assert report["tuned"]["loss"] < report["base"]["loss"]
    assert report["tuned"]["exact_match"] > report["base"]["exact_match"]
