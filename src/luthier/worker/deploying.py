"""Stage 5 of a job: the tuned model is loaded, warmed and asked one question, with the base beside it.

What it does: the stage's events, from its start to what the caller announces. What it does not: announce the name (``results.py``), or
load anything itself (the engine host does). Called by ``pipelines.py``.
"""

import time
from concurrent.futures import ThreadPoolExecutor

from luthier.core.examples import Dataset
from luthier.core.generation import ModelTarget
from luthier.core.stage import Stage
from luthier.deployment.warm import trace_answer, warm
from luthier.trace.events import ModelPublished, PredictionTraced, StageFinished, StageStarted
from luthier.worker.context import RunContext
from luthier.worker.question import open_question, show_prompt


def deploy_stage(
    ctx: RunContext, training: Dataset, validation: Dataset | None, *, base: ModelTarget, tuned: ModelTarget, num_bytes: int
) -> ModelPublished:
    """Stage 5: the tuned model is loaded, warmed and asked one question, before its name is announced."""
    question = open_question(training, validation)
    ctx.tracer.emit(Stage.DEPLOYMENT, StageStarted(shape_in="the final checkpoint"))
    began = time.perf_counter()
    with ThreadPoolExecutor(1, thread_name_prefix="base-answer") as beside:
        # Both answers in the engine's same batch: the tuned model is callable that much sooner.
        untouched = beside.submit(trace_answer, ctx.engine, base, question.messages)
        warmed = warm(ctx.engine, tuned, question.messages)
    prediction = {
        "prompt": question.text,
        "held_out": question.held_out,
        "prompt_tokens": show_prompt(ctx.engine, tuned, question),
        "base": untouched.result(),
        "tuned": warmed.traced,
    }
    ctx.tracer.emit(Stage.DEPLOYMENT, PredictionTraced(prediction=prediction))
    report = StageFinished(
        shape_in=f"{tuned.name}, {num_bytes:,} bytes",
        did="saved, checksummed, loaded into the engine and asked one question",
        shape_out=f"answers: first token after {warmed.first_token_seconds * 1000:.0f} ms, {warmed.tokens_per_second:.0f} tokens/s",
        seconds=time.perf_counter() - began,
        sample={"prompt": question.text, "answer": warmed.traced["answer"]},
    )
    ctx.tracer.emit(Stage.DEPLOYMENT, report)
    return ModelPublished(
        model_name=tuned.name,
        bytes=num_bytes,
        load_seconds=warmed.load_seconds,
        first_token_seconds=warmed.first_token_seconds,
        tokens_per_second=warmed.tokens_per_second,
    )
