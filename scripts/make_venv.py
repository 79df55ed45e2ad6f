"""Make ``.venv`` and install Luthier's dependencies into it with pip, once.

What it does: checks Python, the venv module and the disk, says what will be downloaded, runs pip under constraints.txt, and
leaves a stamp so that the next call returns at once. What it does not: choose a package index (pip's own settings do). It
runs before anything is installed, so it knows the standard library only, and keeps to syntax that Python 3.6 can read, to
tell it that it is too old. Called by the Makefile: ``python3 scripts/make_venv.py runtime`` or ``... dev``.
"""

import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
OTHER_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3.14")
NEEDED_BYTES = 3 * 10**9
DOWNLOADS = {
    "runtime": "torch's CPU build (about 190 MB) and 50 smaller packages (about 70 MB)",
    "dev": "torch's CPU build (about 190 MB) and 80 smaller packages (about 200 MB, of which Node for the type checker is 60)",
}
ADDED = "the tools for tests and checks (about 140 MB, of which Node for the type checker is 60)"
CUDA_NOTE = (
    "Where that is the public index, Linux on x86-64 gets torch with NVIDIA's libraries instead: about 3 GB, and 8 GB of disk.\n"
    "To get the CPU build there, first name PyTorch's CPU index to pip, in PIP_EXTRA_INDEX_URL (its address: pytorch.org, Get started)."
)


class Refused(Exception):
    """The environment cannot be made; the message is the one sentence for the user."""


def check_python(version: tuple) -> None:
    """Refuse a Python that is too old."""
    if tuple(version[:2]) < OLDEST:
        raise Refused(
            f"Luthier needs Python 3.11 or newer and this is {version[0]}.{version[1]}: install a newer one and name it, "
            "as in 'make demo PYTHON=python3.12'."
        )


def check_venv_module() -> None:
    """Refuse a Python whose venv module was split off by the distribution."""
    probe = [sys.executable, "-c", "import ensurepip, venv"]
    if subprocess.call(probe, stderr=subprocess.DEVNULL) != 0:
        package = "python{}.{}-venv".format(*sys.version_info[:2])
        raise Refused(f"Python's venv module is missing: install it (on Debian and Ubuntu: apt install {package}) and try again.")


def check_disk(free_bytes: int) -> None:
    """Refuse to start what the disk cannot hold."""
    if free_bytes < NEEDED_BYTES:
        raise Refused(
            f"The disk has {free_bytes / 1e9:.1f} GB free and installing needs about {NEEDED_BYTES / 1e9:.0f} GB: "
            "free some space, or clone to another disk."
        )


def stamp_text(kind: str) -> str:
    """What an up-to-date environment was made from: its kind, its place and the dependency files."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        digest.update((ROOT / name).read_bytes())
    return f"{kind}\n{ROOT}\n{digest.hexdigest()}\n"


def stamp_path(kind: str) -> Path:
    """Where the stamp of a kind lies."""
    return VENV / f"luthier-{kind}.stamp"


def is_fresh(kind: str) -> bool:
    """True when an earlier call finished for this kind (a dev environment holds the runtime's packages too)."""
    for candidate in (kind, "dev"):
        stamp = stamp_path(candidate)
        if stamp.is_file() and stamp.read_text() == stamp_text(candidate):
            return (VENV / "bin" / "python").exists()
    return False


def _runs(*command: str) -> bool:
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) == 0
    except OSError:
        return False


def _is_usable() -> bool:
    """True when ``.venv`` works and was made at this place: the scripts of a moved one hold the old place's paths."""
    pip = VENV / "bin" / "pip"
    if not pip.is_file() or not _runs(str(VENV / "bin" / "python"), "-m", "pip", "--version"):
        return False
    return any(str(VENV) in line for line in pip.read_text().splitlines()[:3])


def install(kind: str) -> None:
    """Make or complete the environment for "runtime" or "dev"."""
    check_venv_module()
    python = str(VENV / "bin" / "python")
    usable = _is_usable()
    if usable and _runs(python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)"):
        print("Completing .venv with pip: " + (ADDED if kind == "dev" else "what changed") + ".", flush=True)
    else:
        check_disk(shutil.disk_usage(str(ROOT)).free)
        print(f"Making .venv, and installing with pip from the index that pip is set to: {DOWNLOADS[kind]}.")
        if sys.platform.startswith("linux"):
            print(CUDA_NOTE)
        print("This happens once and takes one to five minutes on an ordinary connection.", flush=True)
    started = time.monotonic()
    if not usable:
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", str(VENV)])
    target = ".[dev,data]" if kind == "dev" else "."
    options = ["--disable-pip-version-check", "-c", "constraints.txt"]
    if not sys.stdout.isatty():
        options.append("--quiet")  # on a terminal pip's bars show that it moves; in a log they are noise
    if subprocess.call([python, "-m", "pip", "install", *options, "-e", target], cwd=str(ROOT), stdin=subprocess.DEVNULL) != 0:
        raise Refused("pip could not install the packages; its message stands above (its settings: pip config list).")
    stamp_path(kind).write_text(stamp_text(kind))
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def newer_python() -> str:
    """A Python on the path that is new enough, or an empty string."""
    for name in OTHER_PYTHONS:
        if shutil.which(name) and _runs(name, "-c", ""):
            return name
    return ""


def main(arguments: list) -> int:
    """Do it for the kind named in the arguments; returns the exit code."""
    kind = arguments[0] if arguments else "runtime"
    if is_fresh(kind):
        return 0
    try:
        other = newer_python() if sys.version_info[:2] < OLDEST else ""
        if other:
            return subprocess.call([other, __file__, *arguments])
        check_python(sys.version_info)
        install(kind)
    except Refused as refusal:
        sys.stderr.write(f"luthier: {refusal}\n")
        return 1
    except (OSError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"luthier: .venv could not be made: {error}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
