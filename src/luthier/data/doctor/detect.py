"""Runs the detectors, which judge row by row, over a file.

What it does: reads the file by itself, so that a process of its own can do it beside the checks of the whole. What it does not:
detect (``data/detectors``). Called by ``examine.py`` and ``worker/examine_data.py``.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from luthier.core.doctor_report import DoctorFinding
from luthier.data.detectors.seen_row import Detector
from luthier.data.doctor.sound_rows import SoundRows
from luthier.data.validate import Method


def detect(
    path: Path,
    detectors: Sequence[Detector],
    *,
    method: Method | None,
    max_line_bytes: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[DoctorFinding]:
    """What the detectors find in the sound rows of a training file. Raises OSError when it cannot be read."""
    rows = SoundRows(path, role="training", method=method, max_line_bytes=max_line_bytes)
    for sound in rows.read(on_progress):
        for detector in detectors:
            detector.see(sound.row)
    return [finding for detector in detectors for finding in detector.findings()]
