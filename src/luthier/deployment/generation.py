"""From a ``Generate`` request to a sequence: prompt tokens, context limit, stop tokens.

What it does not: load models or run anything. Called by ``host_requests.py``.
"""

from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder
from luthier.core.conversation import conversation_of
from luthier.core.engine_messages import Generate
from luthier.core.errors import InvalidRequest
from luthier.deployment.model_cache import Lease
from luthier.engine.sequence import Emit, Sequence


def build_sequence(request: Generate, lease: Lease, emit: Emit, created_at: float) -> Sequence:
    """The sequence that answers ``request`` on the leased model.

    Raises:
        InvalidRequest: not exactly one kind of prompt, token ids out of range, or a prompt beyond the context.
    """
    prompt_ids = _prompt_ids(request, lease.renderer, lease.model.facts.vocab_size)
    room = lease.max_length - len(prompt_ids)
    if room < 0:
        raise _too_long(request, lease.max_length, len(prompt_ids))
    wanted = request.sampling.max_tokens
    tokenizer = lease.renderer.tokenizer
    return Sequence(
        lane=lease.lane,
        prompt_ids=prompt_ids,
        sampling=request.sampling,
        max_new_tokens=room if wanted is None else min(room, wanted),
        stop_ids=lease.renderer.stop_ids,
        text=StreamDecoder(tokenizer, stop=request.sampling.stop),
        names=tokenizer,
        emit=emit,
        created_at=created_at,
    )


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
