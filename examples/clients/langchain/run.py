"""LangChain messages become a training file; the tuned model answers `ChatOpenAI`: whole, streamed, in a batch, through Responses."""

import asyncio
import json
import sys
import time
from pathlib import Path

import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, convert_to_openai_messages
from langchain_openai import ChatOpenAI

BASE = "gpt-4o-mini-2024-07-18"
ROWS = Path(__file__).resolve().parents[2] / "translate-en-fr" / "train.jsonl"
SYSTEM = SystemMessage("You translate.")


def chats() -> list[tuple[list[BaseMessage], str]]:
    """The first rows as LangChain messages, each with the answer it should get."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()[:10]]
    return [([SYSTEM, HumanMessage(row["prompt"])], row["completion"]) for row in rows]


def tune(examples: list[tuple[list[BaseMessage], str]]) -> str:
    """Upload, train, wait; returns the model's name. LangChain has no calls for this: the client that it brings does it."""
    client = openai.OpenAI()
    lines = [json.dumps({"messages": convert_to_openai_messages([*asked, AIMessage(answer)])}) + "\n" for asked, answer in examples]
    file = client.files.create(file=("train.jsonl", "".join(lines).encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=file.id,
        suffix="langchain",
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 8, "learning_rate_multiplier": 4}}},
    )
    while not (job := client.fine_tuning.jobs.retrieve(job.id)).finished_at:
        time.sleep(0.5)
    print(f"job {job.id}: {job.status}, model {job.fine_tuned_model}")
    if not job.fine_tuned_model:
        sys.exit(f"the job ended as {job.status}: {job.error}")
    return job.fine_tuned_model


def main() -> None:
    """Do it, and leave with a sentence where something is not as it should be."""
    examples = chats()
    model = tune(examples)
    chat = ChatOpenAI(model=model, temperature=0, max_tokens=24, stream_usage=True)
    asked, expected = examples[0]

    answer = chat.invoke(asked)
    print(f"invoke: {asked[-1].content} -> {answer.content}  ({answer.response_metadata['model_name']}, {answer.usage_metadata})")

    parts = list(chat.stream(asked))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    print(f"stream: {whole.content!r} in {len(parts)} chunks")

    scored = chat.bind(logprobs=True, top_logprobs=2).invoke(asked).response_metadata["logprobs"]["content"]
    print(f"logprobs: {[(entry['token'], round(entry['logprob'], 2)) for entry in scored]}")

    responses = ChatOpenAI(model=model, temperature=0, max_tokens=24, use_responses_api=True).invoke(asked)
    print(f"responses: {responses.text!r}")

    same = {answer.content, whole.content, "".join(e["token"] for e in scored), responses.text, asyncio.run(chat.ainvoke(asked)).content}
    if same != {expected} or whole.usage_metadata != answer.usage_metadata or answer.response_metadata["model_name"] != model:
        sys.exit(f"expected {expected!r} everywhere, got {same}; usage {answer.usage_metadata} and {whole.usage_metadata}")

    answers = chat.batch([question for question, _ in examples])
    right = sum(a.content == wanted for a, (_, wanted) in zip(answers, examples, strict=True))
    print(f"batch: {right} of {len(examples)} training rows answered word for word")
    if right < 8:
        sys.exit("the tuned model has not learned its rows")

    try:
        ChatOpenAI(model="no-such-model").invoke("Hello")
    except openai.NotFoundError as error:
        print(f"unknown model: {error.code}")
    else:
        sys.exit("an unknown model was answered")


if __name__ == "__main__":
    main()
