"""Greedy answers of the model in hand, in the middle of training: some prompts side by side, bounded in tokens and in time.

What it does: the same choice at each token as the engine's at temperature 0; prompts of several runs at once where their model can do that,
because one pass over the weights takes little longer for eight runs' tokens than for one's. What it does not: sample, stream, render or
decode text.
Draws no random numbers and leaves the model's mode as it was, so that a run's bits are those of one that asks nothing.
Called by ``loop.py``, ``worker/floor.py`` and ``worker/fixed_prompts.py``, never during a step.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.models.language_model import Cache, LanguageModel
from luthier.training.turns import Turns

_log = logging.getLogger(__name__)
_MOST_PLACES = 8192
"""Tokens of a cache for prompts of several runs, so that theirs takes little more memory than one run's."""

Answers = list[list[int]]
"""Ids of one answer for each prompt."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Questions:
    """What a run's owner asks the model."""

    prompts: Sequence[Sequence[int]]
    """Ids, each at least one, and with ``max_tokens`` no longer than the model reads."""
    stop_ids: Collection[int]
    """Tokens that end an answer; they are no part of it."""
    max_tokens: int
    seconds: float
    """When so many are over, answers stay as far as they are; runs that are answered at once have theirs together."""
    tell: Callable[[Answers], None]
    """Takes the answers."""


class OfferedAnswers:
    """One run's questions, which may be answered with those of others. Also a ``Beside`` that has nothing to do."""

    def __init__(self, model: LanguageModel, adapter: str | None, questions: Questions) -> None:
        """``adapter``: that answers; None: the base."""
        self.model, self.adapter, self.questions = model, adapter, questions
        self.answers: Answers | None = None
        """Once somebody found them."""
        self.seconds = 0.0
        """This run's part of the time that it took."""

    def __call__(self) -> None:
        """Nothing: who cannot answer with others gives the run its next turn."""

    @property
    def places(self) -> int:
        """Tokens of the longest prompt and its answer."""
        return max(map(len, self.questions.prompts)) + self.questions.max_tokens


def asking(model: LanguageModel, adapter: str | None, questions: Questions | None, *, joins: bool) -> Turns[None]:
    """Answer in the run's own turn, or before, with others. ``adapter`` is in use; ``joins``: it is offered to others first."""
    if questions is None:
        return
    offer = OfferedAnswers(model, adapter, questions)
    if joins:
        yield offer
    if offer.answers is None:
        offer.answers = answers_to(model, questions)
    questions.tell(offer.answers)


def may_ask_together(model: LanguageModel, adapter: str | None) -> bool:
    """What a run of this adapter asks can be answered with what others ask. One whose weights all learn has the model for itself."""
    return adapter is not None and model.decodes_apart


def answers_to(model: LanguageModel, q: Questions) -> Answers:
    """One answer for each prompt, with the adapter that is in use; they are not told. Weights are only read."""
    return _answered(model, [q], None)[0]


def answer_together(offers: Sequence[OfferedAnswers]) -> None:
    """Answer those that fit together; one that fits with none is left to its run, and so are all after an error."""
    for chosen in _fitting(offers):
        if len(chosen) == 1:
            continue
        began = time.perf_counter()
        try:
            found = _answered(chosen[0].model, [offer.questions for offer in chosen], [offer.adapter for offer in chosen])
        except RuntimeError:  # too little memory, for one: alone each may fit, and whose fault another error is shows there
            _log.warning("the prompts of %d runs that could not be answered at once are answered run by run", len(chosen), exc_info=True)
            continue
        seconds = (time.perf_counter() - began) / len(chosen)
        for offer, answers in zip(chosen, found, strict=True):
            offer.answers, offer.seconds = answers, seconds


def _fitting(offers: Sequence[OfferedAnswers]) -> Iterator[list[OfferedAnswers]]:
    """Sets of offers on one model whose cache is small enough, those of like length beside each other."""
    left = sorted(offers, key=lambda offer: (id(offer.model), -offer.places))
    while left:
        taken = [left.pop(0)]
        places = taken[0].places
        while left and left[0].model is taken[0].model:
            if (sum(len(offer.questions.prompts) for offer in taken) + len(left[0].questions.prompts)) * places > _MOST_PLACES:
                break
            taken.append(left.pop(0))
        yield taken


def _answered(model: LanguageModel, questions: Sequence[Questions], adapters: Sequence[str | None] | None) -> list[Answers]:
    """Of each run, with its adapter; ``adapters`` None: of one run, with the adapter that is in use.

    Rows whose answer is over go on unread until half of the runs are done (of a single run half of its rows), and leave with theirs:
    products then have few forms, each of which costs memory and a start of its own.
    """
    run_of = [run for run, q in enumerate(questions) for _ in q.prompts]
    party_of = range(len(run_of)) if adapters is None else run_of
    asked = [questions[run] for run in run_of]
    prompts = [prompt for q in questions for prompt in q.prompts]
    # Each run's time is its own: it would have had that much alone.
    until = time.perf_counter() + sum(q.seconds for q in questions)
    was_training = model.module.training
    model.module.eval()
    try:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + max(q.max_tokens for q in questions))
        cache.steady = True
        tokens = _first_tokens(model, cache, prompts, None if adapters is None else [adapters[run] for run in run_of], until)
        answers: Answers = [[] for _ in prompts]
        slots: Sequence[int] = range(len(tokens))
        going = set(slots)
        while True:
            for slot, token in zip(slots, tokens, strict=True):
                if slot in going and token not in asked[slot].stop_ids:
                    answers[slot].append(token)
                    if len(answers[slot]) < asked[slot].max_tokens:
                        continue
                going.discard(slot)
            if not going or time.perf_counter() > until:
                break
            parties = {party_of[slot] for slot in going}
            if 2 * len(parties) <= len({party_of[slot] for slot in slots}):
                slots, tokens = zip(*((s, t) for s, t in zip(slots, tokens, strict=True) if party_of[s] in parties), strict=True)
            if adapters is None:
                logits_BV = model.decode(cache, slots, tokens)
            else:
                logits_BV = model.decode_apart(cache, slots, tokens, [adapters[run_of[slot]] for slot in slots])
            tokens = logits_BV.argmax(-1).tolist()
    finally:
        model.module.train(was_training)
    rows = iter(answers)
    return [[next(rows) for _ in q.prompts] for q in questions]


def _first_tokens(
    model: LanguageModel, cache: Cache, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None] | None, until: float
) -> Sequence[int]:
    """Of as many answers as there is time for; prompt number I is in slot I then."""
    chosen: list[Tensor] = []
    for slot, prompt in enumerate(prompts):
        if time.perf_counter() > until:
            break
        with nullcontext() if adapters is None else model.use_adapter(adapters[slot]):
            chosen.append(model.prefill(cache, slot, torch.as_tensor(prompt, dtype=torch.int64)).argmax())
    # Read at once: on a GPU each reading waits for all that was asked of it.
    return torch.stack(chosen).tolist() if chosen else []
