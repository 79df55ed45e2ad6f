"""The real host process with the embedded model."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp
from pathlib import Path

import pytest

from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.engine_messages import (
    Finished,
    Generate,
    HostStatus,
    Load,
    Loaded,
    PredictionTrace,
    Score,
    Scores,
    Started,
    Status,
    TokenChunk,
    TracePrediction,
)
from luthier.core.errors import InvalidRequest
from luthier.core.generation import FinishReason, ModelTarget, SamplingParams
from luthier.deployment.host import exit_with_parent
from luthier.engine import naive
from luthier.models.checkpoint import publish_folder
from luthier.worker.engine_link import EngineLink
from tests.support.mini import MINI, load_mini, save_adapter

pytestmark = pytest.mark.e2e
SECRET = "test-secret"
WAIT_SECONDS = 60
BASE = ModelTarget(name="luthier-mini", base_path=str(MINI))
HELLO = ({"role": "user", "content": "Good morning, how are you today?"},)


@dataclass
class Host:
    """A running host."""

    process: subprocess.Popen[str]
    link: EngineLink
    folder: Path


@contextmanager
def _host(**variables: str) -> Iterator[Host]:
    with tempfile.TemporaryDirectory(prefix="lut") as folder:
        socket_path = str(Path(folder) / "engine.sock")
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LUTHIER_")},
            "LUTHIER_ENGINE_SOCKET": socket_path,
            "LUTHIER_ENGINE_SECRET": SECRET,
            "LUTHIER_ENGINE_THREADS": "1",
            "LUTHIER_WARM_MODEL_PATH": "builtin:luthier-mini",
            **variables,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "luthier.deployment.host"], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Host(process, EngineLink(socket_path, SECRET), Path(folder))
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _ready(host: Host) -> None:
    assert host.process.stdout is not None
    assert host.process.stdout.readline() == "ready\n"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with _host() as started:
        _ready(started)
        yield started


@pytest.fixture(scope="module")
def tuned(host: Host) -> ModelTarget:
    folder = save_adapter(load_mini(adapter="tuned"), "tuned", host.folder / "adapter")
    return ModelTarget(name="ft:gpt-4.1-mini:luthier::abc", base_path=str(MINI), adapter_path=str(folder), revision="1")


def _ask(target: ModelTarget = BASE, **sampling: object) -> Generate:
    return Generate(target=target, sampling=SamplingParams(**{"temperature": 0.0, "max_tokens": 24, **sampling}), messages=HELLO)  # type: ignore[arg-type]


def test_it_is_ready_with_the_warm_model_loaded(host: Host) -> None:
    status = host.link.request(Status())
    assert isinstance(status, HostStatus)
    assert "luthier-mini" in status.loaded
    assert status.num_threads == 1
    assert status.resident_bytes > 0


def test_an_answer_streams_and_equals_the_plain_way(host: Host) -> None:
    replies = list(host.link.replies(_ask()))
    model, renderer = load_mini(), Renderer.load(MINI)
    prompt = renderer.prompt(conversation_of(HELLO)).ids_T.tolist()
    expected = naive.generate(model, prompt, max_new_tokens=24, stop_ids=renderer.stop_ids)
    assert replies[0] == Started(prompt_tokens=len(prompt))
    finished = replies[-1]
    assert isinstance(finished, Finished)
    assert finished.completion_tokens == len(expected)
    assert finished.prompt_tokens == len(prompt)
    chunks = [r for r in replies if isinstance(r, TokenChunk)]
    shown = [i for i in expected if i not in renderer.stop_ids]
    assert len(chunks) > len(shown) // 2
    assert "".join(c.text for c in chunks) == renderer.tokenizer.decode(shown)


def test_a_seed_repeats_an_answer_beside_others(host: Host) -> None:
    ask = _ask(temperature=1.2, seed=77)
    alone = host.link.generate(ask)[0]
    others = [host.link.replies(_ask(temperature=1.0, max_tokens=60)) for _ in range(3)]
    for other in others:
        next(other)
    assert host.link.generate(ask)[0] == alone
    for other in others:
        other.close()


def test_a_stop_string_ends_the_answer_before_it(host: Host) -> None:
    ask = _ask(temperature=1.0, seed=5, max_tokens=40)
    whole = host.link.generate(ask)[0]
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    text, _, finished = host.link.generate(_ask(temperature=1.0, seed=5, max_tokens=40, stop=(stop,)))
    assert text == whole[: whole.index(stop)]
    assert finished.finish_reason is FinishReason.STOP


def test_logprobs_are_probabilities_and_their_tokens_are_the_text(host: Host) -> None:
    text, tokens, _ = host.link.generate(_ask(temperature=1.0, seed=3, top_logprobs=20, max_tokens=15))
    assert tokens
    assert b"".join(bytes(t.bytes) for t in tokens).decode() == text
    for token in tokens:
        assert len(token.top) == 20
        assert sum(exp(t.logprob) for t in token.top) <= 1.0 + 1e-6
        assert [t.logprob for t in token.top] == sorted((t.logprob for t in token.top), reverse=True)
        assert token.logprob <= token.top[0].logprob
    assert host.link.generate(_ask(max_tokens=3))[1] == []


def test_three_models_answer_at_once_as_each_does_alone(host: Host, tuned: ModelTarget) -> None:
    copy = shutil.copytree(MINI, host.folder / "copy")
    targets = [BASE, tuned, ModelTarget(name="copy", base_path=str(copy))]
    alone = [host.link.generate(_ask(target))[0] for target in targets]
    assert alone[0] == alone[2] != alone[1]
    together: dict[int, str] = {}

    def ask(index: int) -> None:
        together[index] = host.link.generate(_ask(targets[index % 3]))[0]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert [together[i] for i in range(9)] == alone * 3


def test_scores_come_over_the_wire(host: Host, tuned: ModelTarget) -> None:
    conversation = (*HELLO, {"role": "assistant", "content": "Bonjour"})
    replies = [host.link.request(Score(target=t, conversations=(conversation,), max_length=512)) for t in (BASE, tuned)]
    losses = [r.entries[0]["loss_sum"] for r in replies if isinstance(r, Scores)]
    assert len(losses) == 2
    assert losses[0] != losses[1]
    assert all(loss > 0 for loss in losses)


def test_load_checks_the_manifest_and_tells_size_and_time(host: Host) -> None:
    model = load_mini(adapter="tuned")
    folder = host.folder / "published"
    publish_folder(folder, lambda target: model.save_adapter("tuned", target, base_name="luthier-mini"), {})
    target = ModelTarget(name="published", base_path=str(MINI), adapter_path=str(folder), revision="a")
    loaded = host.link.request(Load(target=target))
    assert isinstance(loaded, Loaded)
    assert 0 < loaded.bytes < 10_000_000
    assert loaded.seconds > 0
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InvalidRequest):
        host.link.request(Load(target=ModelTarget(name="published", base_path=str(MINI), adapter_path=str(folder), revision="b")))


def test_a_prompt_beyond_the_context_is_refused(host: Host) -> None:
    long = ({"role": "user", "content": "one two three " * 400},)
    with pytest.raises(InvalidRequest, match="maximum context length is 512 tokens") as caught:
        host.link.generate(Generate(target=BASE, sampling=SamplingParams(), messages=long))
    assert caught.value.code == "context_length_exceeded"


def test_end_of_standard_input_ends_the_process_even_while_it_answers() -> None:
    with _host() as started:
        _ready(started)
        replies = started.link.replies(_ask(max_tokens=400))
        next(replies)
        assert started.process.stdin is not None
        started.process.stdin.close()
        assert started.process.wait(WAIT_SECONDS) == 0


def test_sigterm_lets_an_answer_finish_then_ends_and_leaves_no_socket() -> None:
    with _host() as started:
        _ready(started)
        replies = started.link.replies(_ask(max_tokens=30))
        next(replies)
        started.process.send_signal(signal.SIGTERM)
        rest = list(replies)
        assert isinstance(rest[-1], Finished)
        assert started.process.wait(WAIT_SECONDS) == 0
        assert not (started.folder / "engine.sock").exists()


@pytest.mark.parametrize(
    "variables",
    [{"LUTHIER_WARM_MODEL_PATH": "builtin:nothing"}, {"LUTHIER_ENGINE_SECRET": ""}, {"LUTHIER_ENGINE_THREADS": "many"}],
)
def test_a_host_that_cannot_start_says_so_by_its_status(variables: dict[str, str]) -> None:
    with _host(**variables) as started:
        assert started.process.wait(WAIT_SECONDS) == 1
        assert started.process.stdout is not None
        assert started.process.stdout.read() == ""


def test_its_import_is_light() -> None:
    code = "import json, sys, luthier.deployment.host; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    heavy = {"transformers", "peft", "fastapi", "starlette", "pydantic", "sqlalchemy", "uvicorn", "openai", "rich", "click"}
    assert "torch" in loaded
    assert not heavy & set(loaded)


def test_the_watch_ends_when_the_other_end_closes_and_not_before() -> None:
    read_end, write_end = os.pipe()
    ended = threading.Event()
    thread = exit_with_parent(ended.set, read_end)
    os.write(write_end, b"still here")
    assert not ended.is_set()
    os.close(write_end)
    thread.join(WAIT_SECONDS)
    assert ended.is_set()
    os.close(read_end)


def test_a_prediction_is_looked_into_while_chat_goes_on(host: Host, tuned: ModelTarget) -> None:
    asked = TracePrediction(target=tuned, base=BASE, messages=HELLO, max_tokens=16, tiers=("A", "B", "C"))
    answers: list[str] = []
    chat = threading.Thread(target=lambda: answers.append(host.link.generate(_ask(BASE, max_tokens=16))[0]))
    chat.start()
    reply = host.link.request(asked, timeout_seconds=WAIT_SECONDS)
    chat.join(WAIT_SECONDS)
    assert isinstance(reply, PredictionTrace)
    told = json.loads(reply.text)
    assert told["missing"] == []
    assert told["base_side"]["answer"] == answers[0]
    assert told["tuned"]["answer"] == host.link.generate(_ask(tuned, max_tokens=16))[0]
    last = told["layers"]["tuned"]["top"][-1]
    assert last[-len(told["tuned"]["path"]) :] == [step["id"] for step in told["tuned"]["path"]]


def test_a_trace_that_cannot_be_is_refused_and_gives_its_models_back(host: Host) -> None:
    asked = TracePrediction(target=BASE, base=None, prompt="word " * 300, max_tokens=4, tiers=("A",))
    for _ in range(3):
        with pytest.raises(InvalidRequest, match="at most 256 tokens"):
            host.link.request(asked, timeout_seconds=WAIT_SECONDS)
    status = host.link.request(Status())
    assert isinstance(status, HostStatus)
    assert status.active == 0
