"""LiteLLM uploads a file, starts a fine-tuning job with `api_base`, follows it, cancels another one and asks the tuned model."""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # without it LiteLLM fetches a price list when it is imported

import litellm

ADDRESS = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}
SERVICE = {"custom_llm_provider": "openai", **ADDRESS}
BASE = "gpt-4o-mini-2024-07-18"
ROWS = Path(__file__).resolve().parents[2] / "translate-en-fr" / "train.jsonl"


def training_file(rows: list[dict[str, str]]) -> bytes:
    """The rows as chats, one JSON object a line."""
    chats = [[{"role": "user", "content": r["prompt"]}, {"role": "assistant", "content": r["completion"]}] for r in rows]
    return "".join(json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats).encode()


def ask(model: str, prompt: str, *, stream: bool) -> str:
    """The answer, whole or put together from its parts."""
    asked = [{"role": "user", "content": prompt}]
    answer = litellm.completion(model=f"openai/{model}", messages=asked, temperature=0, max_tokens=24, stream=stream, **ADDRESS)
    if not stream:
        return answer.choices[0].message.content or ""
    return "".join(part.choices[0].delta.content or "" for part in answer)


def main() -> None:
    """Do it, and leave with a sentence where something is not as it should be."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()[:10]]
    file = litellm.create_file(file=("train.jsonl", training_file(rows)), purpose="fine-tune", **SERVICE)
    job = litellm.create_fine_tuning_job(
        model=BASE, training_file=file.id, hyperparameters={"n_epochs": 8, "learning_rate_multiplier": 4}, suffix="litellm", **SERVICE
    )
    print(f"job {job.id}: {job.status}, file {file.id} of {file.bytes} bytes")

    other = litellm.create_fine_tuning_job(model=BASE, training_file=file.id, **SERVICE)
    cancelled = litellm.cancel_fine_tuning_job(fine_tuning_job_id=other.id, **SERVICE)
    print(f"job {other.id}: {cancelled.status}")

    while not (job := litellm.retrieve_fine_tuning_job(fine_tuning_job_id=job.id, **SERVICE)).finished_at:
        time.sleep(0.5)
    if job.status != "succeeded" or not job.fine_tuned_model:
        sys.exit(f"the job ended as {job.status}: {job.error}")
    print(f"job {job.id}: {job.status}, {job.trained_tokens} tokens trained, model {job.fine_tuned_model}")

    listed = [j.id for j in litellm.list_fine_tuning_jobs(limit=100, **SERVICE)]
    if cancelled.status != "cancelled" or not {job.id, other.id} <= set(listed):
        sys.exit(f"cancelled job: {cancelled.status}; listed jobs: {listed}")

    right = 0
    for row in rows:
        whole, streamed = (ask(job.fine_tuned_model, row["prompt"], stream=stream) for stream in (False, True))
        if whole != streamed:
            sys.exit(f"whole answer {whole!r}, streamed {streamed!r}")
        right += whole == row["completion"]
    before, after = (ask(model, rows[0]["prompt"], stream=False) for model in (BASE, job.fine_tuned_model))
    print(f"{rows[0]['prompt']}: base {before!r}, tuned {after!r}")
    print(f"tuned model: {right} of {len(rows)} training rows answered word for word")
    if right < 8:
        sys.exit("the tuned model has not learned its rows")


if __name__ == "__main__":
    main()
