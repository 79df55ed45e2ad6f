"""The end of a successful job: the result file, and the one transaction that makes the model public.

What it does not: load or verify the model; both are done before (a job says succeeded only when its model answers).
Called by ``worker/pipelines.py``.
"""

from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord, Job, JobStatus
from luthier.core.stage import Stage
from luthier.trace.events import ModelPublished, RunFinished, StepDone
from luthier.trace.projections import metrics_csv
from luthier.trace.reader import read_events
from luthier.worker.checkpoints import Checkpoints
from luthier.worker.context import RunContext

RESULT_FILENAME = "step_metrics.csv"
RESULT_PURPOSE = "fine-tune-results"


def finish(
    ctx: RunContext,
    checkpoints: Checkpoints,
    published: ModelPublished,
    result: FileRecord,
    *,
    trained_tokens: int,
    metrics: dict[str, float],
) -> Job:
    """Register model, checkpoint, result file, events and *succeeded* together.

    Raises:
        StaleLease: the job was cancelled meanwhile; nothing of this is visible.
    """
    checkpoint, model = checkpoints.final_records(metrics)
    with ctx.recorder.exclusively():
        ctx.tracer.emit(Stage.DEPLOYMENT, published)
        ctx.tracer.emit(Stage.DEPLOYMENT, RunFinished(status=JobStatus.SUCCEEDED.value))
        changes = {
            "status": JobStatus.SUCCEEDED,
            "fine_tuned_model": model.name,
            "trained_tokens": trained_tokens,
            "result_files": (result.id,),
            "finished_at": int(ctx.now()),
            "estimated_finish": None,
        }
        return ctx.recorder.write(changes, checkpoints=[checkpoint], models=[model], files=[result])


def store_result(ctx: RunContext) -> FileRecord:
    """Store the metrics of every step as CSV, from the run's own log; one row per step, the later attempt's where one repeats.

    The record is not registered yet: ``finish`` does it.
    """
    events, _ = read_events(ctx.run_dir / "trace.jsonl")
    text = metrics_csv([e.payload for e in events if isinstance(e.payload, StepDone)])
    sha256, num_bytes = ctx.blobs.put(text.encode())
    return FileRecord(
        id=new_file_id(),
        filename=RESULT_FILENAME,
        purpose=RESULT_PURPOSE,
        bytes=num_bytes,
        sha256=sha256,
        created_at=int(ctx.now()),
    )
