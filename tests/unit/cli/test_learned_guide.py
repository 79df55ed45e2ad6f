"""The lines of ``docs/guides/see-what-is-learned.md`` run, end as it says, and print what it shows."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "guides" / "see-what-is-learned.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)
LINES = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]


def _trimmed(text: str) -> str:
    """Without spaces at the ends of lines, and without empty lines: pages fill their tables up."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each line printed."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "examples").symlink_to(ROOT / "examples")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LUTHIER_")}
    printed = []
    for line in LINES:
        command, _, comment = line.partition("#")
        name, *arguments = shlex.split(command)
        assert name == "luthier"
        run = [sys.executable, "-m", "luthier.cli.main", *arguments]
        done = subprocess.run(run, cwd=folder, env=environ, capture_output=True, encoding="utf-8", check=False)
        assert done.returncode == (5 if "ends with 5" in comment else 0), (line, done.stderr)
        printed.append(_trimmed(done.stdout))
    return printed


def test_the_guide_shows_what_its_lines_print(outputs: list[str]) -> None:
    shown = [_trimmed(block) for kind, block in BLOCKS if kind == "text"]
    assert len(shown) == 7
    for block in shown:
        assert any(block in output for output in outputs), block


def test_the_python_of_the_guide_runs(tmp_path: Path) -> None:
    (code,) = [block for kind, block in BLOCKS if kind == "python"]
    (tmp_path / "train.jsonl").symlink_to(ROOT / "examples" / "sentiment-label" / "train.jsonl")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("True [('<|user|>', 'special'), ('S', 'context')")
