"""From a ``Generate`` request to a sequence: prompt tokens, context limit, stop tokens, and what of the prompt is given back.

What it does not: load models or run anything. Called by ``host_requests.py``.
"""

from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder
from luthier.chat.tool_calls import ToolCallStream, call_form
from luthier.core.conversation import conversation_of
from luthier.core.engine_messages import Generate
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat
from luthier.core.generation import EchoedPrompt
from luthier.core.tokens import TokenKind
from luthier.deployment.model_cache import Lease
from luthier.engine.sequence import Emit, Sequence, TextStream


def build_sequence(request: Generate, lease: Lease, emit: Emit, created_at: float) -> Sequence:
    """The sequence that answers ``request`` on the leased model.

    Raises:
        InvalidRequest: not exactly one kind of prompt, token ids out of range, or a prompt beyond the context.
    """
    _check_bias(request, lease.model.facts.vocab_size)
    prompt_ids = _prompt_ids(request, lease.renderer, lease.model.facts.vocab_size)
    room = lease.max_length - len(prompt_ids)
    if room < 0:
        raise _too_long(request, lease.max_length, len(prompt_ids))
    wanted = request.sampling.max_tokens
    return Sequence(
        lane=lease.lane,
        prompt_ids=prompt_ids,
        sampling=request.sampling,
        max_new_tokens=room if wanted is None else min(room, wanted),
        stop_ids=lease.renderer.stop_ids,
        text=_text_stream(request, lease.renderer),
        names=lease.renderer.tokenizer,
        emit=emit,
        created_at=created_at,
        echo=EchoedPrompt(text=_prompt_text(request, lease.renderer)) if request.echo else None,
    )


def own_positions(request: Generate, renderer: Renderer) -> tuple[int, ...]:
    """Where the text of a bare prompt stands among the prompt's tokens: without the tokenizer's opening and a template's marks."""
    if request.prompt is None:
        return tuple(range(len(request.token_ids or ())))
    if not request.prompt:
        return ()
    rendered = renderer.completion_prompt(request.prompt, request.target.row_format)
    if request.target.row_format == RowFormat.PROMPT_COMPLETION.value and renderer.has_template:
        return tuple(t for s in rendered.spans if s.message == 0 and s.kind is TokenKind.CONTEXT for t in range(s.start, s.end))
    return tuple(range(len(renderer.tokenizer.opening_ids), len(rendered.ids_T)))


def _check_bias(request: Generate, vocab_size: int) -> None:
    for token, _ in request.sampling.logit_bias:
        if not 0 <= token < vocab_size:
            message = f"Invalid key in 'logit_bias': {token}. Maximum value is {vocab_size - 1}."
            raise InvalidRequest(message, code="invalid_value", param="logit_bias")


def _text_stream(request: Generate, renderer: Renderer) -> TextStream:
    form = call_form(renderer) if request.parse_tool_calls else None
    if form is not None:
        return ToolCallStream(renderer, form, request.sampling.stop)
    if not _has_turns(request, renderer):
        return StreamDecoder(renderer.tokenizer, stop=request.sampling.stop)
    around = renderer.answer_form
    opening, closing = (around.opening, around.closing) if around is not None else ("", "")
    return StreamDecoder(renderer.tokenizer, stop=request.sampling.stop, opening=opening, closing=closing)


def _has_turns(request: Generate, renderer: Renderer) -> bool:
    """Whether the answer is a turn of a talk that the template wrote; a bare text simply goes on."""
    if request.prompt is not None:
        return renderer.has_template and request.target.row_format == RowFormat.PROMPT_COMPLETION.value
    return request.messages is not None


def _prompt_text(request: Generate, renderer: Renderer) -> str:
    if request.prompt is not None:
        return request.prompt
    return renderer.tokenizer.decode(list(request.token_ids or ()), skip_special=False)


def _prompt_ids(request: Generate, renderer: Renderer, vocab_size: int) -> tuple[int, ...]:
    if sum(p is not None for p in (request.messages, request.prompt, request.token_ids)) != 1:
        raise InvalidRequest("Exactly one of messages, prompt and token ids must be given.", param="messages")
    if request.messages is not None:
        rendered = renderer.prompt(conversation_of(request.messages, request.tools), request.target.row_format)
        ids = tuple(rendered.ids_T.tolist())
    elif request.prompt is not None:
        ids = tuple(renderer.completion_prompt(request.prompt, request.target.row_format).ids_T.tolist())
    else:
        ids = request.token_ids or ()
        if any(not 0 <= i < vocab_size for i in ids):
            raise InvalidRequest(f"A token id in the prompt is outside of the model's vocabulary of {vocab_size}.", param="prompt")
    return ids or _beginning(renderer)


def _beginning(renderer: Renderer) -> tuple[int, ...]:
    """What an empty prompt means: the start of a text."""
    tokenizer = renderer.tokenizer
    first = tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id
    if first is None:
        raise InvalidRequest("The prompt is empty, and this model has no token that begins a text.", param="prompt")
    return (first,)


def _too_long(request: Generate, limit: int, length: int) -> InvalidRequest:
    if request.messages is not None:
        message = (
            f"This model's maximum context length is {limit} tokens. However, your messages resulted in {length} tokens. "
            "Please reduce the length of the messages."
        )
        return InvalidRequest(message, code="context_length_exceeded", param="messages")
    message = (
        f"This model's maximum context length is {limit} tokens. However, your prompt resulted in {length} tokens. "
        "Please reduce the length of the prompt."
    )
    return InvalidRequest(message, code="context_length_exceeded", param="prompt")
