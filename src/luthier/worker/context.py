"""Everything a pipeline is handed: built once per child process in ``child.py``, by hand in tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from luthier.core.engine_messages import EnginePort
from luthier.core.jobs import Job
from luthier.core.settings import Settings
from luthier.storage.blobs import BlobStore
from luthier.storage.jobs import JobStore
from luthier.storage.models import ModelStore
from luthier.trace.tracer import Tracer
from luthier.worker.floor import Floor, SoleFloor
from luthier.worker.recorder import JobRecorder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """One attempt at one job."""

    settings: Settings
    job: Job
    attempt: int
    """1 for the first trainer that takes the job."""
    run_dir: Path
    tracer: Tracer
    recorder: JobRecorder
    engine: EnginePort
    jobs: JobStore
    models: ModelStore
    blobs: BlobStore
    should_stop: Callable[[], bool]
    """True when the job was cancelled, its lease lost, or the server is stopping: end at the next step boundary."""
    now: Callable[[], float]
    floor: Floor = field(default_factory=SoleFloor)
    """Where it computes, perhaps beside other jobs."""
