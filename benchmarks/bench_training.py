"""Training by real jobs: examples and tokens per second of the optimizer steps, seconds to the first step, and seconds from the last one
until the tuned model can be called.

Rows are made from a fixed seed (about 60 tokens of prompt, 40 of answer); the numbers come from the jobs' own trace.
Run: ``python -m benchmarks.bench_training``.
"""

import io
import json
import random
import time
from typing import Any

import openai

from benchmarks.measured import Server, median, record, serving, spread
from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.settings import Settings

METHODS = ("lora", "full")
REPEATS = 3
ROWS = 256
BATCH_SIZE = 8
PROMPT_WORDS = (38, 60)
ANSWER_WORDS = (24, 40)
WORDS = (
    "the a old small red good house river dog man woman child day morning night road tree water bread book friend door garden "
    "went saw said came took gave made found lost ate heard and but then because with under over into near about very never always"
)
POLL_SECONDS = 0.05


def rows() -> list[dict[str, Any]]:
    """Chat rows of plain words, the same at every call."""
    draw = random.Random(20261122)
    vocabulary = WORDS.split()

    def words(low: int, high: int) -> str:
        return " ".join(draw.choice(vocabulary) for _ in range(draw.randint(low, high)))

    return [
        {"messages": [{"role": "user", "content": words(*PROMPT_WORDS)}, {"role": "assistant", "content": words(*ANSWER_WORDS)}]}
        for _ in range(ROWS)
    ]


def total_tokens(examples: list[dict[str, Any]]) -> int:
    """Tokens of all rows as training sees them, padding left out."""
    renderer = Renderer.load(Settings().resolve_model_path("builtin:luthier-mini"))
    return sum(int(renderer.example(conversation_of(row["messages"])).ids_T.shape[0]) for row in examples)


def trace_of(client: openai.OpenAI, job_id: str) -> list[dict[str, Any]]:
    """All events of the job's trace."""
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["id"] if events else 0
        page = client.get(f"/luthier/jobs/{job_id}/trace?after={after}", cast_to=object)
        assert isinstance(page, dict)
        events += page["data"]
        if not page["has_more"]:
            return events


def train_once(server: Server, file_id: str, method: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Run one job of one epoch; returns its step events, and seconds: from its creation to its first step's end, and from its last step's
    end until its model is on disk, loaded, warm and published."""
    client = server.client()
    created = time.time()
    job = client.fine_tuning.jobs.create(
        model="luthier-mini",
        training_file=file_id,
        seed=7,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": BATCH_SIZE}}},
        extra_body={"luthier": {"adapter": method}},
    )
    while (job := client.fine_tuning.jobs.retrieve(job.id)).finished_at is None:
        time.sleep(POLL_SECONDS)
    if job.status != "succeeded":
        raise SystemExit(f"the {method} job ended as {job.status}: {job.error}")
    events = trace_of(client, job.id)
    steps = [event for event in events if event["type"] == "StepDone"]
    last = steps[-1]["time"]
    (published,) = (event["time"] for event in events if event["type"] == "ModelPublished")
    return steps, {"first_step_seconds": steps[0]["time"] - created, "published_after_seconds": published - last}


def main() -> None:
    """Measure and record."""
    examples = rows()
    tokens_per_step = total_tokens(examples) / (ROWS / BATCH_SIZE)
    content = "".join(json.dumps(row) + "\n" for row in examples).encode()
    results: dict[str, Any] = {}
    with serving() as server:
        file = server.client().files.create(file=("bench.jsonl", io.BytesIO(content)), purpose="fine-tune")
        for method in METHODS:
            speeds, times = [], []
            for _ in range(REPEATS):
                steps, seconds = train_once(server, file.id, method)
                step_seconds = [s["data"]["seconds"] for s in steps[1:]]  # the first one warms up
                speeds.append(BATCH_SIZE * len(step_seconds) / sum(step_seconds))
                times.append(seconds)
            results[f"{method}, batch {BATCH_SIZE}"] = {
                "examples_per_second": median(speeds, 1),
                "tokens_per_second": round(median(speeds, 6) * tokens_per_step / BATCH_SIZE),
                **{name: median([seconds[name] for seconds in times], 2) for name in times[0]},
                "spread": spread(speeds),
            }
    results["row"] = {"mean_tokens": round(tokens_per_step / BATCH_SIZE, 1), "rows": ROWS}
    record("training", results)


if __name__ == "__main__":
    main()
