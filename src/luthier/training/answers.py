"""Greedy answers of the model in hand, in the middle of training: some prompts side by side, bounded in tokens and in time.

What it does: the same choice at each token as the engine's at temperature 0; prompts of several runs at once where their model can do that,
because a GPU takes little longer for eight runs' tokens than for one's. What it does not: sample, stream, render or decode text.
Draws no random numbers and leaves the model's mode as it was, so that a run's bits are those of one that asks nothing.
Called by ``loop.py``, ``worker/floor.py`` and ``worker/fixed_prompts.py``, never during a step.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch

from luthier.models.language_model import LanguageModel
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
    """When so many are over, answers stay as far as they are."""
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


def answers_to(model: LanguageModel, q: Questions) -> Answers:
    """One answer for each prompt, with the adapter that is in use; they are not told."""
    return greedy_answers(model, q.prompts, stop_ids=q.stop_ids, max_tokens=q.max_tokens, seconds=q.seconds)


def answer_together(offers: Sequence[OfferedAnswers]) -> None:
    """Answer those that fit together; one that fits with none is left to its run, and so are all after an error."""
    for chosen in _fitting(offers):
        if len(chosen) == 1:
            continue
        began = time.perf_counter()
        try:
            found = _answered_apart(chosen)
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


def _answered_apart(offers: Sequence[OfferedAnswers]) -> list[Answers]:
    """Of each offer. Rows whose answer is over go on unread until all are: the adapters' products then have the same form at each token."""
    model = offers[0].model
    adapters = [offer.adapter for offer in offers for _ in offer.questions.prompts]
    limits = [offer.questions.max_tokens for offer in offers for _ in offer.questions.prompts]
    stops = [frozenset(offer.questions.stop_ids) for offer in offers for _ in offer.questions.prompts]
    prompts = [prompt for offer in offers for prompt in offer.questions.prompts]
    until = time.perf_counter() + max(offer.questions.seconds for offer in offers)
    was_training = model.module.training
    model.module.eval()
    try:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + max(limits))
        chosen = []
        for slot, (adapter, prompt) in enumerate(zip(adapters, prompts, strict=True)):
            with model.use_adapter(adapter):
                chosen.append(model.prefill(cache, slot, torch.as_tensor(prompt, dtype=torch.int64)).argmax())
        tokens = torch.stack(chosen).tolist()
        answers: Answers = [[] for _ in prompts]
        going = set(range(len(prompts)))
        while True:
            for slot in sorted(going):
                if tokens[slot] in stops[slot]:
                    going.discard(slot)
                    continue
                answers[slot].append(tokens[slot])
                if len(answers[slot]) == limits[slot]:
                    going.discard(slot)
            if not going or time.perf_counter() > until:
                break
            tokens = model.decode_apart(cache, range(len(prompts)), tokens, adapters).argmax(-1).tolist()
    finally:
        model.module.train(was_training)
    rows = iter(answers)
    return [[next(rows) for _ in offer.questions.prompts] for offer in offers]


def greedy_answers(
    model: LanguageModel, prompts: Sequence[Sequence[int]], *, stop_ids: Collection[int], max_tokens: int, seconds: float
) -> Answers:
    """One answer for each prompt, with the adapter that is in use.

    Args:
        model: its base, adapter and weights are only read.
        prompts: ids, each at least one, and with ``max_tokens`` no longer than the model reads.
        stop_ids: tokens that end an answer; they are no part of it.
        max_tokens: most tokens of an answer.
        seconds: when so many are over, answers stay as far as they are.
    """
    until = time.perf_counter() + seconds
    was_training = model.module.training
    model.module.eval()
    try:
        cache = model.new_cache(len(prompts), max(map(len, prompts)) + max_tokens)
        answers: Answers = [[] for _ in prompts]
        active: list[int] = []
        for slot, ids in enumerate(prompts):
            if time.perf_counter() > until:
                break
            token = int(model.prefill(cache, slot, torch.as_tensor(ids, dtype=torch.int64)).argmax())
            if token not in stop_ids:
                answers[slot].append(token)
                active.append(slot)
        while active and len(answers[active[0]]) < max_tokens and time.perf_counter() < until:
            chosen = model.decode(cache, active, [answers[slot][-1] for slot in active]).argmax(-1).tolist()
            going = [(slot, token) for slot, token in zip(active, chosen, strict=True) if token not in stop_ids]
            for slot, token in going:
                answers[slot].append(token)
            active = [slot for slot, _ in going]
    finally:
        model.module.train(was_training)
    return answers
