"""DSPy's fine-tuning provider uploads chats, trains a model on them and hands back an `LM`, which then answers them."""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # without it LiteLLM, which DSPy calls, fetches a price list

import dspy
from dspy.clients.utils_finetune import TrainDataFormat

ROWS = Path(__file__).resolve().parents[2] / "translate-en-fr" / "train.jsonl"


def main() -> None:
    """Do it, and leave with a sentence where something is not as it should be."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()[:10]]
    chats = [[{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}] for row in rows]

    base = dspy.LM("openai/gpt-4o-mini-2024-07-18", temperature=0, max_tokens=24, cache=False)
    job = base.finetune(
        train_data=[{"messages": chat} for chat in chats],
        train_data_format=TrainDataFormat.CHAT,
        train_kwargs={"n_epochs": 8, "learning_rate_multiplier": 4},
    )
    tuned = job.result()
    if not isinstance(tuned, dspy.LM):
        sys.exit(f"DSPy's job ended with {tuned!r}")
    print(f"job {job.provider_job_id}: {job.status().value}, model {tuned.model}")

    answers = [tuned(row["prompt"])[0] for row in rows]
    right = sum(answer == row["completion"] for answer, row in zip(answers, rows, strict=True))
    print(f"{rows[0]['prompt']}: base {base(rows[0]['prompt'])[0]!r}, tuned {answers[0]!r}")
    print(f"tuned model: {right} of {len(rows)} training rows answered word for word")
    if right < 8:
        sys.exit(f"the tuned model has not learned its rows: {answers}")


if __name__ == "__main__":
    main()
