"""What travels between processes and into the log comes back as it went in."""

import pytest

from luthier.core import engine_messages as m
from luthier.core.conversation import conversation_of, message_to_dict
from luthier.core.errors import AuthenticationFailed
from luthier.core.generation import CalledTool, EchoedPrompt, FinishReason, ModelTarget, SamplingParams, TokenLogprob, TopToken
from luthier.core.stage import Stage
from luthier.trace import events

TARGET = ModelTarget(name="ft:x", base_path="/b", adapter_path="/a", row_format="prompt_completion", revision="r")
TOP = TopToken(id=1, text="é", bytes=(195, 169), logprob=-0.5)
MESSAGES = [
    m.Generate(target=TARGET, sampling=SamplingParams(stop=("\n",), seed=3), messages=({"role": "user", "content": "\ud800"},)),
    m.Generate(target=TARGET, sampling=SamplingParams(), token_ids=(1, 2)),
    m.Generate(
        target=TARGET,
        sampling=SamplingParams(logit_bias=((5, -100.0),), frequency_penalty=0.5, presence_penalty=-1.0),
        prompt="x",
        echo=True,
        parse_tool_calls=True,
    ),
    m.Load(target=TARGET),
    m.Unload(name="x"),
    m.Render(target=TARGET, messages=({"role": "user", "content": "x"},), add_generation_prompt=False),
    m.Render(target=TARGET, messages=({"role": "user", "content": "x"},), tools=({"type": "function", "function": {"name": "f"}},)),
    m.Score(target=TARGET, conversations=(({"role": "user", "content": "x"},),), max_length=9),
    m.Status(),
    m.Started(prompt_tokens=3),
    m.Started(prompt_tokens=3, echo=EchoedPrompt(text="é", tokens=(TokenLogprob(id=1, text="é", bytes=(195, 169), logprob=0.0),))),
    m.TokenChunk(text="é", tokens=(TokenLogprob(id=1, text="é", bytes=(195, 169), logprob=-0.5, top=(TOP,)),)),
    m.Finished(finish_reason=FinishReason.LENGTH, prompt_tokens=1, completion_tokens=2, first_token_seconds=0.1, total_seconds=0.2),
    m.Finished(
        finish_reason=FinishReason.STOP,
        prompt_tokens=1,
        completion_tokens=1,
        first_token_seconds=0.1,
        total_seconds=0.2,
        end_token=TokenLogprob(id=1, text="é", bytes=(195, 169), logprob=-0.5, top=(TOP,)),
        tool_calls=(CalledTool(name="f", arguments="{}"),),
    ),
    m.Failed(kind="InvalidRequest", message="no", code="c", param=None),
    m.Loaded(bytes=1, seconds=0.1),
    m.RenderedTokens(tokens=({"id": 1},)),
    m.TracePrediction(target=TARGET, base=None, messages=({"role": "user", "content": "x"},), max_tokens=4, tiers=("A", "C"), path=(3,)),
    m.TracePrediction(target=TARGET, base=TARGET, prompt="x", max_tokens=4, tiers=("B",), layer=1, token=0, answer="y"),
    m.PredictionTrace(text='{"tuned": null}'),
    m.Scores(entries=({"loss_sum": 1.0},)),
    m.HostStatus(loaded=("a",), active=0, resident_bytes=1, num_threads=2, uptime_seconds=1.0),
    m.Done(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda x: type(x).__name__)
def test_there_and_back(message: object) -> None:
    line = m.encode(message)  # type: ignore[arg-type]
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert m.decode(line) == message


def test_a_request_with_a_wrong_secret_is_refused() -> None:
    line = m.encode(m.Status(), secret="right")
    assert m.decode_request(line, "right") == m.Status()
    for refused, secret in ((line, "wrong"), (m.encode(m.Status()), "right")):
        with pytest.raises(AuthenticationFailed):
            m.decode_request(refused, secret)


def test_events_there_and_back_and_a_newer_field_is_ignored() -> None:
    payload = events.StageFinished(shape_in="a", did="b", shape_out="c", seconds=1.0, changes=("x",), sample={"line": 1})
    event = events.TraceEvent(id=1, run="r", attempt=2, time=3.0, stage=Stage.COLLECTION, payload=payload)
    plain = events.event_to_dict(event)
    assert events.event_from_dict(plain) == event
    assert events.event_from_dict({**plain, "data": {**plain["data"], "new": 1}}) == event


def test_conversation_keeps_weight_and_joins_parts() -> None:
    conversation = conversation_of(
        [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, {"role": "assistant", "weight": 0}]
    )
    assert conversation.messages[0].content == "ab"
    assert conversation.messages[1].weight == 0
    assert message_to_dict(conversation.messages[1]) == {"role": "assistant", "content": ""}
