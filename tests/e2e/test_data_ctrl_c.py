"""Ctrl-C ends a ``luthier data`` command at any moment with one line and 130, and leaves nothing half-written.

The signal goes to the whole group of processes, as a terminal sends it: while the command loads its modules, while the process that does
the work loads its own, and while it works. The last delay is far into the work; the first ones begin before either has loaded.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROWS = 150_000
DELAYS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.6, 1.0)
# The console script, which says so when it loads its first module: what Python does before that is not ours.
BEGIN = """
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it, and we would have inherited that

from luthier.cli.entry import main

class Marker:
    def find_spec(self, name, path, target=None):
        if name == "luthier.cli.main":
            print("begun", file=sys.stderr, flush=True)

sys.meta_path.insert(0, Marker())
main()
"""
COMMANDS = {
    "import": ("import", "train.jsonl", "-o", "new.jsonl"),
    "export": ("export", "train.jsonl", "--to", "sharegpt", "-o", "new.json"),
    "fix": ("fix", "train.jsonl", "-o", "new.jsonl", "--diff", "new.diff"),
    "split": ("split", "train.jsonl", "--valid", "0.1"),
    "redact": ("redact", "train.jsonl", "-o", "new.jsonl", "--kinds", "emails"),
    "doctor": ("doctor", "train.jsonl", "--output", "report.json"),
    "check": ("check", "train.jsonl"),
    "show": ("show", "train.jsonl", "--line", "100000", "--packing"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    with (place / "train.jsonl").open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            talk = [{"role": "user", "content": f"Question {number}?" * 5}, {"role": "assistant", "content": f"Answer {number} to it."}]
            file.write(json.dumps({"messages": talk}) + "\n")
    return place


def until_gone(group: int) -> None:
    """No process is left behind: the one that reads rows for the doctor ends as soon as it sees that it is alone."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.02)
        pytest.fail("a process was left behind")


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_any_moment(folder: Path, name: str) -> None:
    for delay in DELAYS:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN, "data", *COMMANDS[name]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        time.sleep(delay)
        if process.poll() is not None:  # a fast machine, which is done before the last delays
            process.communicate()
            assert process.returncode == 0
            assert delay, "the first signal comes before any work"
            break
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        if process.returncode == 0:  # done in the moment before the signal
            assert delay, "the first signal comes before any work"
            break
        lines = [line for line in err.splitlines() if line]
        assert (process.returncode, lines[-1], out) == (130, "luthier: Stopped.", ""), (delay, err)
        assert all(line.startswith(("columns: ", "examining ")) for line in lines[:-1]), (delay, err)
        assert [path.name for path in folder.iterdir()] == ["train.jsonl"], delay
        until_gone(process.pid)
    for path in folder.iterdir():
        if path.name != "train.jsonl":
            path.unlink()
