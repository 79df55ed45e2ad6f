"""What must not be loaded: torch in the office and the command line, transformers on the fast path.

import-linter keeps the written imports (``make check``); these tests run the processes' entry points and look at what Python
has really loaded, through third parties too.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "peft", "safetensors", "accelerate", "tokenizers")
SLOW = ("transformers", "peft", "accelerate")

CHAT_ON_THE_FAST_PATH = """
import luthier.deployment.host
from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.settings import Settings
from luthier.models.load import load_model
folder = Settings().resolve_model_path("builtin:luthier-mini")
renderer, model = Renderer.load(folder), load_model(folder)
prompt = renderer.prompt(conversation_of([{"role": "user", "content": "Hello"}]))
cache = model.new_cache(1, 64)
logits = model.prefill(cache, 0, prompt.ids_T.tolist())
token = int(logits.argmax())
model.decode(cache, [0], [token])
"""


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh Python has loaded after running the code."""
    report = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + report], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module",
    [
        "luthier",
        "luthier.core.settings",
        "luthier.cli.main",
        "luthier.api.app",
        "luthier.api.deps",
        "luthier.storage.database",
        "luthier.jobs.queue",
    ],
)
def test_office_and_command_line_start_without_torch(module: str) -> None:
    assert loaded_after(f"import {module}") & set(HEAVY) == set()


def test_a_chat_on_the_fast_path_never_loads_transformers() -> None:
    loaded = loaded_after(CHAT_ON_THE_FAST_PATH)
    assert "torch" in loaded, "the check lost its subject"
    assert loaded & set(SLOW) == set()


@pytest.mark.parametrize("module", ["luthier.worker.pipelines", "luthier.training.loop"])
def test_a_job_starts_without_transformers(module: str) -> None:
    assert loaded_after(f"import {module}") & set(SLOW) == set()


def test_the_nouns_need_the_standard_library_and_numpy_only() -> None:
    foreign = []
    for path in sorted((ROOT / "src" / "luthier" / "core").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top != "numpy" and not name.startswith("luthier.core"):
                    foreign.append(f"{path.name}: {name}")
    assert foreign == []


def test_no_pickle_and_no_remote_code_anywhere_in_the_package() -> None:
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if {n.partition(".")[0] for n in names} & {"pickle", "dill", "cloudpickle", "joblib"}:
                found.append(f"{path.name}: {names}")
            if (
                isinstance(node, ast.keyword)
                and node.arg == "trust_remote_code"
                and not (isinstance(node.value, ast.Constant) and node.value.value is False)
            ):
                found.append(f"{path.name}: trust_remote_code")
    assert found == []
