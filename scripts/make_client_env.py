"""Make ``.client-envs/NAME``: the environment of one foreign client, from exact pins.

The pins stand in ``tests/clients/NAME`` or ``examples/clients/NAME``.

What it does: installs ``requirements.txt`` with pip into a virtual environment of its own, or ``package.json`` with its lock
file with ``npm ci`` into a folder of its own, and leaves a stamp so that the next call returns at once. One call works at a
time; a broken or outdated environment is made anew. What it does not: touch ``.venv``, choose a package index, run tests.
Called by ``make client-envs`` and ``.ci/run``: ``python3 scripts/make_client_env.py NAME ...``, or ``--all``, or ``--list``. Exit
codes: 0 all are there, 3 the package index cannot be reached, 1 anything else. The tests that need an environment ask
``why_absent`` and skip with its sentence.
"""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = (ROOT / "tests" / "clients", ROOT / "examples" / "clients")
ENVIRONMENTS = ROOT / ".client-envs"
PYTHON_PINS, NODE_PINS = ("requirements.txt",), ("package.json", "package-lock.json")
INSTALL_SECONDS = 900
PIP_OPTIONS = ("--disable-pip-version-check", "--no-input", "--quiet", "--no-compile", "--retries", "2")
NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=30000", "--fetch-retries=1")
UNREACHABLE = 3
CONNECTION_SIGNS = (
    *("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "ProxyError", "Connection refused", "timed out"),
    *("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN"),
)


class Refused(Exception):
    """The environment cannot be made; the message is the one sentence for the user."""


class Unreachable(Refused):
    """The package index does not answer."""


def names() -> list[str]:
    """Every client that has pins."""
    folders = (path for clients in CLIENTS if clients.is_dir() for path in clients.iterdir())
    return sorted(path.name for path in folders if any((path / first).is_file() for first in (PYTHON_PINS[0], NODE_PINS[0])))


def pins_folder(name: str) -> Path:
    """Where a client's pins stand."""
    return next((clients / name for clients in CLIENTS if (clients / name).is_dir()), CLIENTS[0] / name)


def pins(name: str) -> list[Path]:
    """The files that say what is installed for a client.

    Raises:
        Refused: there is no such client, a file is missing, or a requirement is not pinned to one version.
    """
    folder = pins_folder(name)
    kind = NODE_PINS if (folder / NODE_PINS[0]).is_file() else PYTHON_PINS
    files = [folder / file for file in kind]
    missing = [f.relative_to(ROOT).as_posix() for f in files if not f.is_file()]
    if missing:
        raise Refused(f"{name} is no client with pins: {missing[0]} is missing (there are: {', '.join(names())}).")
    if kind is PYTHON_PINS:
        for line in files[0].read_text(encoding="utf-8").splitlines():
            requirement = line.partition("#")[0].strip()
            if requirement and "==" not in requirement:
                raise Refused(f"{files[0].relative_to(ROOT).as_posix()} does not pin {requirement!r} to one version.")
    return files


def environment(name: str) -> Path:
    """Where a client's environment lies."""
    return ENVIRONMENTS / name


def stamp_text(name: str) -> str:
    """What an up-to-date environment was made from: its place and the pins."""
    digest = hashlib.sha256()
    for file in pins(name):
        digest.update(file.read_bytes())
    return f"{environment(name)}\n{digest.hexdigest()}\n"


def _stamp(name: str) -> Path:
    return environment(name) / "luthier.stamp"


def is_fresh(name: str) -> bool:
    """True when an earlier call made this environment, here and from the same pins."""
    stamp = _stamp(name)
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == stamp_text(name)


def why_absent(name: str) -> str:
    """The reason that a test gives for its skip; empty when the environment is there."""
    return "" if is_fresh(name) else f".client-envs/{name} is absent or outdated: make it with 'python3 scripts/make_client_env.py {name}'"


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise Refused(f"{command[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise Refused(f"{command[0]} did not end in {INSTALL_SECONDS} s.") from None
    if done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
        if any(sign in done.stdout + done.stderr for sign in CONNECTION_SIGNS):
            raise Unreachable("the package index cannot be reached; the message stands above.")
        raise Refused(f"{Path(command[0]).name} could not install the packages; its message stands above.")


def _install_python(folder: Path, requirements: Path) -> None:
    _run([sys.executable, "-m", "venv", str(folder)], ROOT)
    python = str(folder / "bin" / "python")
    _run([python, "-m", "pip", "install", *PIP_OPTIONS, "-r", str(requirements)], folder)
    _run([python, "-m", "pip", "check"], folder)


def _install_node(folder: Path, files: list[Path]) -> None:
    if not shutil.which("npm"):
        raise Refused("npm is not installed (on Debian and Ubuntu: apt install nodejs npm).")
    folder.mkdir(parents=True)
    for file in files:
        shutil.copy(file, folder)
    _run(["npm", "ci", *NPM_OPTIONS], folder)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """One maker at a time; the lock falls with the process."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def make(name: str) -> Path:
    """Make the environment of a client, or leave it as it is when it is up to date.

    Raises:
        Refused: there are no exact pins for it, or they could not be installed; nothing is left in its place.
    """
    files = pins(name)
    folder = environment(name)
    with _lock():
        if is_fresh(name):
            print(f".client-envs/{name}: up to date", flush=True)
            return folder
        print(f".client-envs/{name}: installing {', '.join(f.relative_to(ROOT).as_posix() for f in files)} ...", flush=True)
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if files[0].name == NODE_PINS[0]:
                _install_node(folder, files)
            else:
                _install_python(folder, files[0])
        except Refused:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _stamp(name).write_text(stamp_text(name), encoding="utf-8")
        print(f".client-envs/{name}: made in {time.monotonic() - started:.0f} s", flush=True)
    return folder


def main(arguments: list[str]) -> int:
    """Make what the arguments name; returns the exit code: 1 when one of them could not be made, after trying them all."""
    if not arguments:
        print("usage: make_client_env.py NAME ... | --all | --list", file=sys.stderr)
        return 2
    if arguments == ["--list"]:
        print("\n".join(f"{name}  {'made' if is_fresh(name) else 'absent'}" for name in names()))
        return 0
    code = 0
    for name in names() if arguments == ["--all"] else arguments:
        try:
            make(name)
        except (Refused, OSError) as error:
            print(f"luthier: .client-envs/{name}: {error}", file=sys.stderr, flush=True)
            code = UNREACHABLE if isinstance(error, Unreachable) and code in (0, UNREACHABLE) else 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
