"""The batched engine with its cache answers as the plainest greedy loop does, token for token."""

import pytest
import torch

from luthier.engine import naive
from luthier.engine.sequence import Lane
from luthier.models.language_model import LanguageModel
from tests.support.engine_sequences import Recorded, new_engine, run_to_end
from tests.support.mini import load_mini


@pytest.fixture(scope="module")
def mini() -> LanguageModel:
    return load_mini(adapter="tuned")


def _prompts(model: LanguageModel) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(9)
    lengths = (1, 2, 7, 30, 90)
    return [tuple(torch.randint(40, model.facts.vocab_size, (n,), generator=generator).tolist()) for n in lengths]


def test_engine_equals_naive_for_the_base_and_an_adapter_in_one_run(mini: LanguageModel) -> None:
    engine = new_engine()
    engine.attach("m", mini, max_length=256)
    asked = [
        Recorded(prompt, lane=Lane("m", adapter), max_new_tokens=12 + 3 * index)
        for index, prompt in enumerate(_prompts(mini))
        for adapter in (None, "tuned")
    ]
    for recorded in asked:
        engine.add(recorded.sequence)
        engine.step()
    run_to_end(engine)
    answers: dict[tuple[tuple[int, ...], str | None], list[int]] = {}
    for recorded in asked:
        sequence = recorded.sequence
        expected = naive.generate(mini, sequence.prompt_ids, max_new_tokens=sequence.max_new_tokens, adapter=sequence.lane.adapter)
        assert recorded.ids == expected
        answers[sequence.prompt_ids, sequence.lane.adapter] = expected
    assert any(answers[prompt, None] != answers[prompt, "tuned"] for prompt in _prompts(mini))


def test_a_slot_used_before_answers_as_a_fresh_one(mini: LanguageModel) -> None:
    engine = new_engine()
    engine.attach("m", mini, max_length=256)
    long, short = _prompts(mini)[4], _prompts(mini)[2]
    for prompt in (long, short):
        recorded = Recorded(prompt, max_new_tokens=10)
        engine.add(recorded.sequence)
        run_to_end(engine)
        assert recorded.ids == naive.generate(mini, prompt, max_new_tokens=10)


def test_an_answer_may_fill_the_context_to_its_last_token(mini: LanguageModel) -> None:
    engine = new_engine()
    engine.attach("m", mini, max_length=40)
    prompt = _prompts(mini)[3]
    recorded = Recorded(prompt, max_new_tokens=40 - len(prompt))
    engine.add(recorded.sequence)
    run_to_end(engine)
    assert recorded.ids == naive.generate(mini, prompt, max_new_tokens=40 - len(prompt))
