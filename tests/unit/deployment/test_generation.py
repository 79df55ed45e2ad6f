from typing import Any

import pytest

from luthier.chat.renderer import Renderer
from luthier.chat.tool_calls import ToolCallStream
from luthier.core.engine_messages import EngineReply, Generate
from luthier.core.errors import InvalidRequest
from luthier.core.generation import EchoedPrompt, ModelTarget, SamplingParams
from luthier.deployment.generation import build_sequence, own_positions
from luthier.deployment.model_cache import Lease, ModelCache
from luthier.engine.sequence import Sequence
from tests.support.engine_sequences import new_engine
from tests.support.fake_model import FakeModel
from tests.support.mini import MINI

TARGET = ModelTarget(name="mini", base_path=str(MINI))
HELLO = ({"role": "user", "content": "Good morning"},)


@pytest.fixture(scope="module")
def lease() -> Lease:
    engine = new_engine()
    cache = ModelCache(engine, load_model=lambda folder: FakeModel(vocab_size=8192), load_renderer=Renderer.load, max_context_tokens=4096)
    return cache.acquire(TARGET)


def _build(lease: Lease, *, max_tokens: int | None = None, **prompt: Any) -> Sequence:
    replies: list[EngineReply] = []
    request = Generate(target=TARGET, sampling=SamplingParams(max_tokens=max_tokens), **prompt)
    return build_sequence(request, lease, replies.append, 0.0)


def test_messages_are_rendered_as_training_renders_them(lease: Lease) -> None:
    sequence = _build(lease, messages=HELLO)
    assert lease.renderer.tokenizer.decode(list(sequence.prompt_ids), skip_special=False) == "<|user|>Good morning<|end|><|assistant|>"
    assert sequence.stop_ids == lease.renderer.stop_ids


def test_without_a_limit_the_answer_may_fill_the_context(lease: Lease) -> None:
    sequence = _build(lease, messages=HELLO)
    assert sequence.max_new_tokens == 64 - len(sequence.prompt_ids)
    assert _build(lease, messages=HELLO, max_tokens=7).max_new_tokens == 7
    assert _build(lease, messages=HELLO, max_tokens=10**6).max_new_tokens == sequence.max_new_tokens


def test_a_prompt_beyond_the_context_is_refused_in_the_known_words(lease: Lease) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _build(lease, messages=({"role": "user", "content": "one two three four " * 50},))
    error = caught.value
    assert (error.code, error.param) == ("context_length_exceeded", "messages")
    start, end = (
        "This model's maximum context length is 64 tokens. However, your messages resulted in ",
        " tokens. Please reduce the length of the messages.",
    )
    assert error.message.startswith(start)
    assert error.message.endswith(end)
    assert int(error.message.removeprefix(start).removesuffix(end)) > 64


def test_a_prompt_that_fills_the_context_leaves_room_for_nothing(lease: Lease) -> None:
    assert _build(lease, token_ids=(5,) * 64).max_new_tokens == 0
    with pytest.raises(InvalidRequest) as caught:
        _build(lease, token_ids=(5,) * 65)
    assert caught.value.param == "prompt"


def test_an_empty_prompt_is_the_start_of_a_text(lease: Lease) -> None:
    assert _build(lease, token_ids=()).prompt_ids == (lease.renderer.tokenizer.bos_id,)


@pytest.mark.parametrize("prompt", [{}, {"prompt": "a", "messages": HELLO}, {"token_ids": (1,), "prompt": "a"}])
def test_exactly_one_kind_of_prompt(lease: Lease, prompt: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        _build(lease, **prompt)


@pytest.mark.parametrize("bad", [-1, 8192])
def test_token_ids_outside_of_the_vocabulary_are_refused(lease: Lease, bad: int) -> None:
    with pytest.raises(InvalidRequest):
        _build(lease, token_ids=(1, bad))


def test_a_bias_on_a_token_outside_of_the_vocabulary_is_refused(lease: Lease) -> None:
    def build(token: int) -> Sequence:
        request = Generate(target=TARGET, sampling=SamplingParams(logit_bias=((token, 1.0),)), token_ids=(1,))
        return build_sequence(request, lease, lambda _: None, 0.0)

    assert build(8191).chooser.logit_bias == ((8191, 1.0),)
    with pytest.raises(InvalidRequest, match=r"Invalid key in 'logit_bias': 8192\. Maximum value is 8191") as caught:
        build(8192)
    assert caught.value.param == "logit_bias"


def test_tool_calls_are_looked_for_only_when_asked(lease: Lease) -> None:
    assert isinstance(_build(lease, messages=HELLO, parse_tool_calls=True).text, ToolCallStream)
    assert not isinstance(_build(lease, messages=HELLO).text, ToolCallStream)


def test_an_echo_is_the_prompt_as_it_was_given(lease: Lease) -> None:
    assert _build(lease, prompt="Once upon", echo=True).echo == EchoedPrompt(text="Once upon")
    ids = tuple(lease.renderer.tokenizer.encode("Good<|end|>"))
    assert _build(lease, token_ids=ids, echo=True).echo == EchoedPrompt(text="Good<|end|>")
    assert _build(lease, prompt="Once upon").echo is None


@pytest.mark.parametrize("row_format", ["chat", "prompt_completion"])
def test_own_positions_are_those_of_the_prompts_text(lease: Lease, row_format: str) -> None:
    target = ModelTarget(name="mini", base_path=str(MINI), row_format=row_format)
    request = Generate(target=target, sampling=SamplingParams(), prompt="Once upon a time", echo=True)
    sequence = build_sequence(request, lease, lambda _: None, 0.0)
    own = [sequence.prompt_ids[t] for t in own_positions(request, lease.renderer)]
    assert lease.renderer.tokenizer.decode(own, skip_special=False) == "Once upon a time"
    assert (len(own) < len(sequence.prompt_ids)) == (row_format == "prompt_completion")


def test_an_empty_prompt_has_no_tokens_of_its_own(lease: Lease) -> None:
    request = Generate(target=TARGET, sampling=SamplingParams(), prompt="", echo=True)
    assert own_positions(request, lease.renderer) == ()
    assert _build(lease, prompt="", echo=True).echo == EchoedPrompt(text="")
