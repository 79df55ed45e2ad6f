"""Any local Hugging Face causal LM: tiny random Llama, Qwen2 and GPT-2 are added, tuned, served, and survive a restart."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.examples import chat_file
from tests.support.server import ServerProcess
from tests.support.tiny_models import build


def add(server: ServerProcess, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "luthier.cli.main", "models", "add", str(folder), "--name", name, "--data-dir", str(server.data_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_an_added_model_is_tuned_and_served_and_survives_a_restart(fresh_server: ServerProcess, tmp_path: Path, family: str) -> None:
    folder = build(family, tmp_path / family)
    result = add(fresh_server, folder, f"tiny-{family}")
    assert result.returncode == 0, result.stderr
    assert ("transformers" in result.stdout) == (family == "gpt2")

    client = fresh_server.client()
    base = client.chat.completions.create(model=f"tiny-{family}", messages=[{"role": "user", "content": "Hi"}], max_tokens=4, temperature=0)
    assert base.usage is not None
    assert base.usage.completion_tokens >= 1
    file = client.files.create(file=("train.jsonl", chat_file(12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=f"tiny-{family}", training_file=file.id, hyperparameters={"n_epochs": 2, "learning_rate_multiplier": 10}, seed=1
    )
    done = fresh_server.wait_for_job(job.id)
    assert done.status == "succeeded", (done.error, fresh_server.logs())
    assert done.fine_tuned_model.startswith(f"ft:tiny-{family}:luthier::")
    question = {"model": done.fine_tuned_model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}
    answer = client.chat.completions.create(**question, logprobs=True).choices[0]

    assert fresh_server.terminate() == 0
    fresh_server.start()
    again = fresh_server.client().chat.completions.create(**question, logprobs=True).choices[0]
    assert again.message.content == answer.message.content
    assert [t.logprob for t in again.logprobs.content] == pytest.approx([t.logprob for t in answer.logprobs.content], abs=1e-6)


def test_an_unsafe_folder_is_refused_in_one_sentence(server: ServerProcess, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "pytorch_model.bin").write_bytes(b"x")
    result = add(server, folder, "pickled")
    assert result.returncode != 0
    assert "safetensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert "pickled" not in {m.id for m in server.client().models.list()}
