"""The built wheel, installed in an empty environment outside the checkout, serves the embedded model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 120.0
MAX_PACKAGE_DATA_BYTES = 25 * 1024 * 1024

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing left in the checkout's build folder gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment's bin folder with the wheel in it; third parties come from the environment of this test."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    python = place / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    # Without the caller's PYTHONPATH: pip would find the checkout there and take it for an installed package.
    done = subprocess.run(install, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stderr
    # Only now: a path file lends the dependencies without reading the path files that lie there, the checkout's own among them.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "lib" / version / "site-packages" / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place / "bin"


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("LUTHIER_", "PYTHON", "OPENAI_", "COV_"))}


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def server(installed: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """``luthier serve`` of the wheel, started in another directory: the process, its address, its key."""
    data = tmp_path / "data"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [str(installed / "luthier"), "serve", "--port", "0", "--data-dir", str(data)]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=elsewhere, env=_environment(), stdout=output, stderr=output, text=True)
    try:
        deadline = time.monotonic() + READY_SECONDS
        url = ""
        while not (url and _ready(url)):
            assert process.poll() is None, (tmp_path / "output").read_text()
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.1)
            announced = data / "server.json"
            url = json.loads(announced.read_text())["url"] if announced.exists() else ""
        yield process, url, (data / "api_key").read_text()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_the_wheel_holds_the_embedded_model_with_its_card_and_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    model = "luthier/models/builtin/luthier-mini/"
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json", "README.md", "ATTRIBUTION_storybooks.tsv"):
        assert sizes.get(model + name, 0) > 0, name
    assert any(name.startswith("luthier/storage/migrations/versions/") for name in sizes)
    assert sum(size for name, size in sizes.items() if not name.endswith(".py")) <= MAX_PACKAGE_DATA_BYTES
    assert any(name.endswith("licenses/LICENSE") for name in sizes)
    assert any(name.endswith("licenses/NOTICE") for name in sizes)


def test_the_environment_runs_the_wheel_and_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import luthier; print(luthier.__file__)"
    found = subprocess.run([installed / "python", "-c", code], cwd=tmp_path, env=_environment(), capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(installed.parent)


def test_the_wheel_serves_the_embedded_model(server: tuple[subprocess.Popen[str], str, str]) -> None:
    process, url, key = server
    client = openai.OpenAI(base_url=url + "/v1", api_key=key)
    assert "luthier-mini" in [model.id for model in client.models.list()]
    answer = client.chat.completions.create(
        model="luthier-mini", messages=[{"role": "user", "content": "Hello"}], max_tokens=8, temperature=0
    )
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
