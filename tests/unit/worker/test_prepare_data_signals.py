"""A command that prepares data is told to end at any moment: before, in and after its work it says nothing of it."""

import signal
import subprocess
import sys

import pytest

MOMENTS = {
    "its arguments are read": ("m._parser = told; m.main()", -signal.SIGTERM),
    "it works": ("m._export = told; m.main()", 130),
    "it has worked": ("m._export = lambda *_: None; m.main(); told()", -signal.SIGTERM),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_told_to_end_while(moment: str) -> None:
    code, status = MOMENTS[moment]
    begin = "import signal, luthier.worker.prepare_data as m; told = lambda *_: signal.raise_signal(signal.SIGTERM); "
    command = [sys.executable, "-c", begin + code, "export", "rows.jsonl", "--to", "sharegpt", "--output", "new.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
