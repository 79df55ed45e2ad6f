"""The fixed prompts: which, what the model answers, and that asking changes nothing of the training."""

from pathlib import Path

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.data.stage import collect
from luthier.engine.naive import generate
from luthier.models.language_model import LanguageModel
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training import answers as answers_module
from luthier.training.answers import Questions, answers_to
from luthier.worker.fixed_prompts import MAX_TOKENS, PROMPTS, FixedPrompts
from tests.support.examples import chat_file
from tests.support.mini import MINI, load_mini


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(MINI)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return load_mini(adapter="tuned")


def rows(folder: Path, renderer: Renderer, count: int, role: str = "training") -> Prepared:
    path = folder / f"{role}.jsonl"
    path.write_bytes(chat_file(count, "valid.jsonl" if role == "valid" else "train.jsonl"))
    dataset = collect("file-1", path, role="training", max_line_bytes=1 << 20, sha256="")
    return prepare(dataset, renderer, max_length=256, role="training")


def asked(prompts, stop_ids, *, max_tokens: int, seconds: float) -> Questions:
    return Questions(prompts=prompts, stop_ids=stop_ids, max_tokens=max_tokens, seconds=seconds, tell=lambda _answers: None)


def test_each_answer_is_the_plainest_greedy_one(model, renderer, tmp_path):
    train = rows(tmp_path, renderer, 12)
    prompts = [row.rendered.ids_T[: int(row.rendered.weights_T.nonzero()[0][0])].tolist() for row in train.examples[:4]]
    for adapter in (None, "tuned"):
        with model.use_adapter(adapter):
            found = answers_to(model, asked(prompts, renderer.stop_ids, max_tokens=16, seconds=600.0))
        for ids, answer in zip(prompts, found, strict=True):
            plain = generate(model, ids, max_new_tokens=16, stop_ids=renderer.stop_ids, adapter=adapter)
            assert answer == [token for token in plain if token not in renderer.stop_ids]


def test_time_bounds_the_answers(model, renderer, monkeypatch):
    now = [0.0]

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            now[0] += 1.0
            return now[0]

    monkeypatch.setattr(answers_module, "time", Clock)
    found = answers_to(model, asked([[40, 41], [42], [43]], (), max_tokens=48, seconds=2.5))
    assert [len(answer) for answer in found] == [1, 1, 0]
    assert answers_to(model, asked([[40, 41]], (), max_tokens=48, seconds=0.5)) == [[]], "not even for the first"


def test_the_first_held_out_rows_are_asked_with_what_was_expected(model, renderer, tmp_path):
    train, valid = rows(tmp_path, renderer, 12), rows(tmp_path, renderer, 10, "valid")
    told = FixedPrompts(model, renderer, train, valid).answer(3)
    assert told is not None
    assert (told.epoch, told.held_out) == (3, True)
    assert [row["line"] for row in told.answers] == [row.source.line for row in valid.examples[:PROMPTS]]
    for row, example in zip(told.answers, valid.examples, strict=False):
        whole = renderer.tokenizer.decode(example.rendered.ids_T.tolist())
        assert row["expected"]
        assert row["expected"] in whole
        assert row["prompt"] in whole
    again = FixedPrompts(model, renderer, train, valid).answer(3)
    assert again == told, "the same prompts, and greedy answers"


def test_without_a_validation_file_training_rows_are_asked(model, renderer, tmp_path):
    told = FixedPrompts(model, renderer, rows(tmp_path, renderer, 12), None).answer(0)
    assert told is not None
    assert not told.held_out


def test_asking_leaves_the_models_mode_and_the_random_numbers(model, renderer, tmp_path):
    prompts = FixedPrompts(model, renderer, rows(tmp_path, renderer, 12), None)
    before = torch.get_rng_state()
    model.module.train()
    prompts.answer(1)
    assert model.module.training
    model.module.eval()
    prompts.answer(2)
    assert not model.module.training
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_that_leave_no_room_for_an_answer_are_passed_over(model, renderer, tmp_path, monkeypatch):
    import luthier.worker.fixed_prompts as module

    train = rows(tmp_path, renderer, 12)
    monkeypatch.setattr(module, "_PROMPT_TOKENS", 1)
    assert FixedPrompts(model, renderer, train, None).answer(1) is None
    assert model.facts.max_length > MAX_TOKENS
