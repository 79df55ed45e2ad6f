"""The detectors' process: not ended by a terminal's Ctrl-C, but with the process that it works for."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from luthier.worker.detector_process import DetectorProcess

ORPHANS_MAKER = """
import multiprocessing, os, sys
from pathlib import Path
from luthier.worker.detector_process import DetectorProcess
if __name__ == "__main__":
    process = DetectorProcess(Path(sys.argv[1]), method=None, max_line_bytes=1_000_000)
    while not process.done:
        process.poll(0.1)
    print(multiprocessing.active_children()[0].pid, flush=True)
    os._exit(1)
"""


def rows(path: Path, count: int) -> Path:
    talk = {"messages": [{"role": "user", "content": "Write to me, please. " * 30}, {"role": "assistant", "content": "Done."}]}
    line = json.dumps(talk) + "\n"
    with path.open("w") as file:
        for _ in range(count):
            file.write(line)
    return path


def test_ctrl_c_does_not_end_it(tmp_path: Path) -> None:
    process = DetectorProcess(rows(tmp_path / "rows.jsonl", 8_000), method=None, max_line_bytes=1_000_000)
    while not process.done:
        assert not process.poll(0.1), "a file that takes longer than the first word about it"
    (child,) = multiprocessing.active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    while not process.poll(0.1):
        continue
    _, looked_for, _ = process.result()
    assert looked_for
    assert child.exitcode == 0


def test_it_ends_with_the_process_that_it_works_for(tmp_path: Path) -> None:
    script = tmp_path / "maker.py"
    script.write_text(ORPHANS_MAKER)
    path = rows(tmp_path / "rows.jsonl", 60_000)
    made = subprocess.run([sys.executable, str(script), str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 1, made.stderr
    orphan = int(made.stdout)
    if psutil.pid_exists(orphan):
        psutil.wait_procs([psutil.Process(orphan)], timeout=30)
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE
