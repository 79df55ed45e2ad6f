"""Processes that the server starts, and a Ctrl-C that reaches the whole group."""

import os
import signal
from pathlib import Path

from luthier.cli.children import Child


def test_a_child_is_not_ended_by_ctrl_c_from_its_first_moment_on(tmp_path: Path) -> None:
    child = Child(name="loop", module="code", log_file=tmp_path / "logs" / "loop.log")
    child.start(os.environ)
    assert child.process is not None
    assert child.process.stdin is not None
    os.kill(child.process.pid, signal.SIGINT)
    # An interactive loop of Python's: it would tell of the signal, and go on or not.
    child.process.stdin.write(b"print('still', 'here')\n")
    child.process.stdin.close()
    assert child.process.wait(timeout=60) == 0
    said = child.log_file.read_text()
    assert "still here" in said
    assert "KeyboardInterrupt" not in said


def test_this_process_goes_on_listening_to_ctrl_c(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = Child(name="loop", module="code", log_file=tmp_path / "loop.log")
    child.start(os.environ)
    assert child.process is not None
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    child.process.communicate(timeout=60)
