"""Starts the workshop as a process, for the commands that work on local files without a server.

What it does: hands the arguments on and ends with the process's exit code. What it does not: know what a command does. Called by
``data_import.py``, ``data_export.py``, ``data_fix.py``, ``data_redact.py`` and ``data_split.py``.
"""

import os
import subprocess
import sys
from typing import NoReturn

from luthier.cli.settings_file import read_settings


def prepare(*arguments: str) -> NoReturn:
    """Run ``worker/prepare_data.py`` with these arguments; it prints, and this process ends as it does."""
    settings = read_settings(data_dir=None)
    command = [sys.executable, "-m", "luthier.worker.prepare_data", *arguments]
    sys.exit(subprocess.run(command, env={**os.environ, **settings.environment()}, check=False).returncode)
