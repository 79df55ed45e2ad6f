"""Greedy answers of a model, batched, through the engine that serves it.

What it does: the prompt of a chat question, answers of the base or of one adapter, the questions of a prepared data set.
What it does not: load or train models, judge answers. Called by every section.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.engine_messages import EngineReply, Failed, TokenChunk
from luthier.core.examples import Dataset
from luthier.core.generation import SamplingParams
from luthier.engine.engine import Engine
from luthier.engine.runner import Runner
from luthier.engine.scheduler import Scheduler
from luthier.engine.sequence import Emit, Lane
from luthier.engine.sequence import Sequence as Generation
from luthier.models.language_model import LanguageModel
from pretraining.errors import PretrainingError

MODEL_KEY = "measured"
_END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked and what is expected."""

    prompt_ids: tuple[int, ...]
    expected: str
    num_expected: int
    """Tokens of the expected answer with its end mark."""


def chat_prompt(renderer: Renderer, text: str) -> tuple[int, ...]:
    """One user turn through the model's chat template."""
    rendered = renderer.prompt(Conversation(messages=(Message(role=Role.USER, content=text),)))
    return tuple(rendered.ids_T.tolist())


def questions_of(dataset: Dataset, renderer: Renderer, *, keep_marks: bool = False) -> list[Question]:
    """Each example asked up to its last assistant message; ``keep_marks`` leaves marks such as ``<|tool_call|>`` in the expected text.

    Raises:
        PretrainingError: an example asks nothing before its last answer.
    """
    questions = []
    for example in dataset.examples:
        messages, tools = example.conversation.messages, example.conversation.tools
        last = max(i for i, message in enumerate(messages) if message.role is Role.ASSISTANT)
        if last == 0:
            raise PretrainingError(f"Line {example.source.line} of {dataset.file_id} asks nothing before its answer.")
        prompt = renderer.prompt(Conversation(messages=messages[:last], tools=tools), dataset.row_format.value).ids_T.tolist()
        whole = renderer.example(Conversation(messages=messages[: last + 1], tools=tools), dataset.row_format.value).ids_T.tolist()
        # The prompt is a true prefix of the example: what follows it is the answer and the mark that ends it.
        answer = whole[len(prompt) :]
        text = renderer.tokenizer.decode([token for token in answer if token not in renderer.stop_ids], skip_special=not keep_marks)
        questions.append(Question(tuple(prompt), text, len(answer)))
    return questions


def new_engine(model: LanguageModel, max_length: int, *, max_waiting: int = 1) -> Engine:
    """An engine that holds one model and whose steps the caller makes."""
    engine = Engine(Runner(), Scheduler(max_waiting=max_waiting))
    engine.attach(MODEL_KEY, model, max_length=max_length)
    return engine


def greedy_answers(
    model: LanguageModel,
    renderer: Renderer,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    adapter: str | None = None,
    stop: tuple[str, ...] = (),
    keep_marks: bool = False,
) -> list[str]:
    """The greedy continuation of each prompt, in the prompts' order.

    Args:
        model: the base, with the adapter attached if one is asked for.
        renderer: of the model.
        prompts: token ids, at least one each; a prompt that fills the model's context gets an empty answer.
        max_tokens: longest answer, its end mark included.
        adapter: name of an attached adapter; None asks the model itself.
        stop: strings that end an answer, beside the model's end marks and ``<|endoftext|>``; not part of it.
        keep_marks: leave special marks in the text.

    Raises:
        PretrainingError: the model's numbers are not finite.
    """
    max_length = min(model.facts.max_length, max((len(prompt) for prompt in prompts), default=0) + max_tokens)
    engine = new_engine(model, max_length, max_waiting=max(1, len(prompts)))
    end = renderer.tokenizer.id_of(_END_OF_TEXT)
    stop_ids = renderer.stop_ids | ({end} if end is not None else frozenset())
    replies: list[list[EngineReply]] = [[] for _ in prompts]
    for prompt, received in zip(prompts, replies, strict=True):
        generation = new_generation(
            renderer,
            prompt,
            max_tokens=max(0, min(max_tokens, max_length - len(prompt))),
            adapter=adapter,
            stop_ids=stop_ids,
            stop=stop,
            keep_marks=keep_marks,
            emit=received.append,
        )
        engine.add(generation)
    while engine.num_active:
        engine.step()
    return [_text(received) for received in replies]


def new_generation(
    renderer: Renderer,
    prompt: Sequence[int],
    *,
    max_tokens: int,
    adapter: str | None,
    stop_ids: frozenset[int],
    emit: Emit,
    stop: tuple[str, ...] = (),
    keep_marks: bool = False,
) -> Generation:
    """One greedy sequence for an engine of ``new_engine``; arguments as in ``greedy_answers``."""
    return Generation(
        lane=Lane(MODEL_KEY, adapter),
        prompt_ids=tuple(prompt),
        sampling=SamplingParams(temperature=0.0, stop=stop),
        max_new_tokens=max_tokens,
        stop_ids=stop_ids,
        text=StreamDecoder(renderer.tokenizer, stop=stop, skip_special=not keep_marks),
        names=renderer.tokenizer,
        emit=emit,
        created_at=0.0,
    )


def _text(replies: Sequence[EngineReply]) -> str:
    if replies and isinstance(replies[-1], Failed):
        raise PretrainingError(f"An answer failed: {replies[-1].message}")
    return "".join(reply.text for reply in replies if isinstance(reply, TokenChunk))
