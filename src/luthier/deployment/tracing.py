"""Measures one prediction trace on the engine's thread, in pieces, for any model that is served.

What it does: renders the prompt, lets tuned and base model answer side by side, reads the answer through both, looks into their layers,
and says of every part that it does not have why. What it does not: load models or talk to callers (``host_requests.py``), or find training
examples (the API does, it knows the files). Called by ``host_requests.py``.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from luthier.chat.renderer import Renderer
from luthier.chat.stream import StreamDecoder
from luthier.core.conversation import Conversation, Message, Role, conversation_of
from luthier.core.engine_messages import TracePrediction
from luthier.core.errors import InvalidRequest
from luthier.core.examples import RowFormat
from luthier.core.prediction import (
    MAX_ANSWER_TOKENS,
    MAX_PROMPT_TOKENS,
    MAX_REPLY_BYTES,
    Alternative,
    Forced,
    ForcedToken,
    Missing,
    PathStep,
    Side,
    Trace,
    short,
)
from luthier.core.tokens import Rendered
from luthier.deployment.model_cache import Lease
from luthier.engine.prediction import adapter_of, attention_of, embedding_of, layers_of, lens_places, probed
from luthier.engine.walk import Walk, scored, walked
from luthier.models.probe import Probe

_RESERVED_BYTES = 32_000
"""For what the API adds: names, nearest examples."""
_FEW_ALTERNATIVES = 5


@dataclass(slots=True, kw_only=True, eq=False)
class _Work:
    """One trace under way."""

    request: TracePrediction
    lease: Lease
    base: Lease | None
    rendered: Rendered
    missing: list[Missing] = field(default_factory=list)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        return tuple(self.rendered.ids_T.tolist())

    def lacks(self, tier: str, reason: str) -> None:
        """Say that a part is missing."""
        self.missing.append(Missing(tier=tier, reason=reason))


def traced(request: TracePrediction, lease: Lease, base: Lease | None) -> Iterator[str | None]:
    """None after each piece of work, and last the trace as JSON.

    Raises:
        InvalidRequest: the prompt is too long, or the request names a token or a layer that there is not.
        Unavailable: the logits are not finite.
    """
    work = _Work(request=request, lease=lease, base=base, rendered=_rendered(request, lease.renderer))
    _check(work)
    if base is None:
        work.lacks("A", f"{request.target.name} is a base model and no other was named as base: there is nothing to compare it with.")
    for tier in sorted({"A", "B", "C"} - set(request.tiers)):
        work.lacks(tier, "Not asked for.")
    shared = base is not None and _same_tokens(work)
    walks = [_walk(work, lease, work.prompt_ids)]
    if base is not None:
        walks.append(_walk(work, base, work.prompt_ids if shared else tuple(_rendered(request, base.renderer).ids_T.tolist())))
    # The answer is needed by every tier: it is what the layers are asked about.
    for _ in walked(walks):
        yield None
    trace = Trace(prompt_tokens=lease.renderer.describe(work.rendered), tuned=None)
    if "A" in request.tiers:
        sides = [_side(work, walk, renderer) for walk, renderer in zip(walks, _renderers(work), strict=True)]
        trace = replace(trace, tuned=sides[0], base_side=sides[1] if len(sides) > 1 else None)
    if base is not None and not shared:
        work.lacks("A", "Base and tuned model have different tokens, so that one's answer cannot be read through the other.")
    answer_ids = _answer_ids(work, walks[0])
    if "A" in request.tiers:
        for compared in _forced(work, answer_ids, compare=shared):
            trace = replace(trace, forced=compared)
            yield None
    if "B" in request.tiers or "C" in request.tiers:
        for piece in _looked_into(work, trace, answer_ids, compare=shared):
            if piece is None:
                yield None
            else:
                trace = piece
    yield _told(replace(trace, missing=tuple(work.missing)))


def _renderers(work: _Work) -> list[Renderer]:
    return [work.lease.renderer, *([work.base.renderer] if work.base is not None else [])]


def _rendered(request: TracePrediction, renderer: Renderer) -> Rendered:
    if request.messages is not None:
        return renderer.prompt(conversation_of(request.messages), request.target.row_format)
    return renderer.completion_prompt(request.prompt or "", request.target.row_format)


def _check(work: _Work) -> None:
    request, facts = work.request, work.lease.model.facts
    param = "prompt" if request.messages is None else "messages"
    length, limit = len(work.prompt_ids), min(MAX_PROMPT_TOKENS, work.lease.max_length - 1)
    if length > limit:
        text = f"A prediction trace takes at most {limit} tokens of prompt. However, your {param} resulted in {length} tokens."
        raise InvalidRequest(f"{text} Please reduce the length of the {param}.", code="context_length_exceeded", param=param)
    if any(not 0 <= i < facts.vocab_size for i in request.path):
        raise InvalidRequest(f"A token id in 'path' is outside of the model's vocabulary of {facts.vocab_size}.", param="path")
    if request.token is not None and not 0 <= request.token < length:
        raise InvalidRequest(f"Invalid 'token': the prompt has the tokens 0 to {length - 1}.", code="invalid_value", param="token")
    if request.layer is not None and not 0 <= request.layer < max(1, facts.num_layers):
        raise InvalidRequest(f"Invalid 'layer': the model has the layers 0 to {facts.num_layers - 1}.", code="invalid_value", param="layer")


def _same_tokens(work: _Work) -> bool:
    """Whether the base reads these tokens as the tuned model does. Bases of one tokenizer do; others may only seem to by their size."""
    mine, base = work.lease, work.base
    assert base is not None
    if mine.model is base.model:
        return True
    if mine.model.facts.vocab_size != base.model.facts.vocab_size:
        return False
    ours, theirs = mine.renderer.tokenizer, base.renderer.tokenizer
    return ours.special_ids == theirs.special_ids and all(
        ours.token_bytes(i) == theirs.token_bytes(i) for i in range(mine.model.facts.vocab_size)
    )


def _walk(work: _Work, lease: Lease, prompt_ids: tuple[int, ...]) -> Walk:
    path = work.request.path if lease is work.lease or _same_tokens(work) else ()
    room = max(1, lease.max_length - len(prompt_ids))
    return Walk(
        model=lease.model,
        adapter=lease.lane.adapter,
        prompt_ids=prompt_ids,
        forced=path,
        max_tokens=min(work.request.max_tokens, MAX_ANSWER_TOKENS, room),
        stop_ids=lease.renderer.stop_ids,
    )


def _side(work: _Work, walk: Walk, renderer: Renderer) -> Side:
    names, around = renderer.tokenizer, renderer.answer_form
    turns = work.request.messages is not None or (
        renderer.has_template and work.request.target.row_format == RowFormat.PROMPT_COMPLETION.value
    )
    opening, closing = (around.opening, around.closing) if around is not None and turns else ("", "")
    stream = StreamDecoder(names, opening=opening, closing=closing)
    text = "".join(stream.push(i) for i in (walk.ids[:-1] if walk.ended else walk.ids)) + stream.finish()
    path = tuple(
        PathStep(
            id=step.id,
            token=names.token_text(step.id),
            probability=short(math.exp(step.logprob)) or 0.0,
            logprob=short(step.logprob),
            rank=step.rank,
            entropy=short(step.entropy) or 0.0,
            forced=step.forced,
            end=walk.ended and at == len(walk.steps) - 1,
            top=tuple(
                Alternative(id=i, token=names.token_text(i), probability=short(math.exp(p)) or 0.0, logprob=short(p) or 0.0)
                for i, p in step.top
            ),
        )
        for at, step in enumerate(walk.steps)
    )
    return Side(answer=text, finish_reason="stop" if walk.ended else "length", path=path)


def _answer_ids(work: _Work, walk: Walk) -> tuple[int, ...]:
    """The tokens that the models are asked about: the text that was sent, else the model's own answer."""
    if work.request.answer is None:
        return walk.ids
    ids = _ids_of(work, work.request.answer)
    room = min(MAX_ANSWER_TOKENS, work.lease.max_length - len(work.prompt_ids))
    if len(ids) > room:
        work.lacks("A", f"The given answer has {len(ids)} tokens; the first {room} are looked at.")
    return ids[:room]


def _ids_of(work: _Work, answer: str) -> tuple[int, ...]:
    """A given answer as the model would have to write it after this prompt, with the token that ends it."""
    request, renderer, prompt_ids = work.request, work.lease.renderer, work.prompt_ids
    if request.messages is not None:
        asked = conversation_of(request.messages).messages
    elif request.target.row_format == RowFormat.PROMPT_COMPLETION.value:
        asked = (Message(role=Role.USER, content=request.prompt or ""),)
    else:
        return tuple(renderer.tokenizer.encode(answer))
    said = tuple(replace(m, weight=0.0) for m in asked)
    example = renderer.example(Conversation(messages=(*said, Message(role=Role.ASSISTANT, content=answer))), request.target.row_format)
    ids = example.ids_T.tolist()
    end = max((t + 1 for t, w in enumerate(example.weights_T.tolist()) if w > 0), default=0)
    if tuple(ids[: len(prompt_ids)]) != prompt_ids or end <= len(prompt_ids):
        return tuple(renderer.tokenizer.encode(answer))
    return tuple(ids[len(prompt_ids) : end])


def _forced(work: _Work, answer_ids: tuple[int, ...], *, compare: bool) -> Iterator[Forced | None]:
    """The answer through both models; the last one is complete. Nothing for an empty answer."""
    names = work.lease.renderer.tokenizer
    values: list[list[float]] = []
    for lease in (work.lease, work.base if compare else None):
        found: list[float] = []
        for piece in scored(lease.model, lease.lane.adapter, work.prompt_ids, answer_ids) if lease is not None else ():
            found += piece
            yield None
        values.append(found)
    if not answer_ids:
        work.lacks("A", "The answer has no tokens to compare.")
        return
    tokens: list[ForcedToken] = []
    for at, token in enumerate(answer_ids):
        tuned, base = values[0][at], values[1][at] if values[1] else None
        change = None if base is None else short(tuned - base)
        told = ForcedToken(
            id=token,
            text=names.token_text(token),
            tuned_logprob=short(tuned),
            base_logprob=None if base is None else short(base),
            change=change,
        )
        tokens.append(told)
    yield Forced(source="tuned" if work.request.answer is None else "answer", tokens=tuple(tokens))


def _looked_into(work: _Work, trace: Trace, answer_ids: tuple[int, ...], *, compare: bool) -> Iterator[Trace | None]:
    """Tiers B and C. The base reads the same tokens as the tuned model, so that their layers stand side by side."""
    request, lease = work.request, work.lease
    facts, ids = lease.model.facts, (*work.prompt_ids, *answer_ids)
    places = lens_places(lease.model, len(work.prompt_ids), len(answer_ids))
    layer = None if "C" not in request.tiers else facts.num_layers - 1 if request.layer is None else request.layer
    probes: list[Probe | None] = []
    for used in (lease, work.base if compare and "B" in request.tiers else None):
        found: Probe | None = None
        wanted = layer if used is lease else None
        for piece in probed(used.model, used.lane.adapter, ids, places.positions, attention_layer=wanted) if used is not None else ():
            found = piece
            yield None
        probes.append(found)
    tuned, base = probes
    if tuned is None:
        for tier in sorted(set(request.tiers) - {"A"}):
            work.lacks(tier, f"The layers of this architecture ({facts.family}) cannot be looked into.")
        return
    if "B" in request.tiers:
        trace = _with_layers(work, trace, ids, tuned, base)
        if places.left_out:
            work.lacks(
                "B", f"The layers are shown for {len(places.positions)} places; {places.left_out} earlier or later ones are left out."
            )
        yield None
    if layer is not None:
        trace = _with_attention(work, trace, tuned, layer)
    yield trace


def _with_layers(work: _Work, trace: Trace, ids: tuple[int, ...], tuned: Probe, base: Probe | None) -> Trace:
    lease, names, prompt_ids = work.lease, work.lease.renderer.tokenizer, work.prompt_ids
    places = lens_places(lease.model, len(prompt_ids), len(ids) - len(prompt_ids))
    if tuned.attention_norm_L is None:
        work.lacks("B", "A block of this architecture does not add attention and MLP to what enters it: their shares do not exist.")
    adapter = None if lease.lane.adapter is None else adapter_of(lease.model, lease.lane.adapter)
    if not adapter:
        work.lacks("B", "The model has no adapter whose weights could be compared with the base's.")
    return replace(
        trace,
        embedding=embedding_of(lease.model, names, prompt_ids, tuned, work.request.token),
        layers=layers_of(names, ids, places.positions, tuned, base),
        adapter=adapter or None,
    )


def _with_attention(work: _Work, trace: Trace, tuned: Probe, layer: int) -> Trace:
    if tuned.attention_HTT is None:
        work.lacks("C", f"Layer {layer} of this architecture tells no attention weights.")
        return trace
    budget = MAX_REPLY_BYTES - _RESERVED_BYTES - _size(_told(trace))
    attention, cut = attention_of(tuned.attention_HTT, layer, len(work.prompt_ids), max(0, budget))
    if cut is not None:
        work.lacks("C", cut)
    return replace(trace, attention=attention)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _told(trace: Trace) -> str:
    """The trace as JSON, within the bound: with fewer alternatives where it would be too large."""
    plain = trace.to_dict()
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    if _size(text) <= MAX_REPLY_BYTES - _RESERVED_BYTES:
        return text
    for side in (plain["tuned"], plain["base_side"]):
        for step in side["path"][1:] if side is not None else ():
            step["top"] = step["top"][:_FEW_ALTERNATIVES]
    reason = f"After the first token only {_FEW_ALTERNATIVES} alternatives are shown, so that the answer stays small."
    plain["missing"] = [*plain["missing"], {"tier": "A", "reason": reason}]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
