"""How long a prediction trace takes, and how much it holds up chat, on a running server; run it while a job trains, too.

What it does: asks tiers A, A+B and A+B+C of one model and the nearest rows many times, and tells median and worst seconds and the
answer's bytes; then the median seconds of a short chat answer alone and beside traces. What it does not: start a server or a job. Run:
``python -m benchmarks.bench_prediction_trace --model NAME --rounds 10`` with ``LUTHIER_URL`` and ``LUTHIER_API_KEY``, or
with ``--data-dir``.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from luthier.cli.client import find_server

PROMPT = "Translate to French: Good morning, how are you today?"
TIERS = (["A"], ["A", "B"], ["A", "B", "C"])


def _times(work: Callable[[], int], rounds: int) -> dict[str, float]:
    seconds: list[float] = []
    size = 0
    for _ in range(rounds):
        started = time.perf_counter()
        size = work()
        seconds.append(time.perf_counter() - started)
    return {"median_s": round(statistics.median(seconds), 3), "worst_s": round(max(seconds), 3), "bytes": size}


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--data-dir", type=Path, default=None)
    asked = parser.parse_args()
    server = find_server(data_dir=asked.data_dir)
    messages = [{"role": "user", "content": asked.prompt}]
    with httpx2.Client(base_url=f"{server.url}/v1", headers={"Authorization": f"Bearer {server.key}"}, timeout=120.0) as http:

        def post(path: str, **body: object) -> int:
            answer = http.post(path, json={"model": asked.model, "messages": messages, **body})
            answer.raise_for_status()
            return len(answer.content)

        post("/luthier/trace", tiers=TIERS[-1])
        found: dict[str, object] = {"".join(t): _times(lambda t=t: post("/luthier/trace", tiers=t), asked.rounds) for t in TIERS}  # type: ignore[misc]
        found["A and nearest rows"] = _times(lambda: post("/luthier/trace", tiers=TIERS[0], nearest=True), asked.rounds)
        found["chat"] = _times(lambda: post("/chat/completions", max_tokens=8, temperature=0), asked.rounds)
        stop = threading.Event()

        def tracing() -> None:
            while not stop.is_set():
                post("/luthier/trace", tiers=TIERS[-1])

        beside = threading.Thread(target=tracing)
        beside.start()
        found["chat_beside_traces"] = _times(lambda: post("/chat/completions", max_tokens=8, temperature=0), asked.rounds)
        stop.set()
        beside.join()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
