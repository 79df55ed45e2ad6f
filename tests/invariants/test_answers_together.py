"""Prompts of several runs answered at once get the answers of each run alone."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from luthier.models.load import load_model
from luthier.training import answers, together
from luthier.training.answers import Answers, OfferedAnswers, Questions, answer_together, answers_to, may_ask_together
from luthier.training.loop import Trainer, TrainResult
from luthier.training.turns import Turns
from luthier.worker.floor import Seat, SharedFloor
from tests.invariants.test_together import FORMS
from tests.support.mini import MINI
from tests.support.one_floor import on_one_floor
from tests.support.rows_of_runs import rows_of_runs
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, spec_for

PROMPTS = {"a": [[7, 8, 9], [11]], "b": [[5] * 9, [6, 30]], "c": [[4, 4], [90, 91, 92, 93]]}


@pytest.fixture(params=["llama", "qwen3", "smollm3"])
def model(request, tmp_path):
    made = load_model(build(request.param, tmp_path / "m"), dtype=torch.float64)
    made.flat = True
    for number, (name, rank, form) in enumerate(FORMS):
        made.add_adapter(name, rank=rank, alpha=64.0, seed=number, form=form)
        for at, parameter in enumerate(made.adapter_parameters(name)):
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at + 7 * number))
    return made


def asked(prompts: list[list[int]], told: list[Answers], *, stop_ids=(), max_tokens=12, seconds=600.0) -> Questions:
    return Questions(prompts=prompts, stop_ids=stop_ids, max_tokens=max_tokens, seconds=seconds, tell=told.append)


def alone(model, adapter, questions: Questions) -> Answers:
    with model.use_adapter(adapter):
        return answers_to(model, questions)


def test_each_run_gets_its_own_answers(model):
    offers = [OfferedAnswers(model, name, asked(PROMPTS[name], [])) for name in "abc"]
    before = model.module.training
    answer_together(offers)
    assert model.module.training == before
    for offer in offers:
        assert offer.answers == alone(model, offer.adapter, offer.questions)
        assert offer.seconds > 0
    assert len({str(offer.answers) for offer in offers}) == 3, "the adapters differ"


def test_other_stops_limits_and_numbers_of_prompts(model):
    first = alone(model, "a", asked(PROMPTS["a"], []))
    offers = [
        OfferedAnswers(model, "a", asked(PROMPTS["a"], [], stop_ids={first[0][3]})),
        OfferedAnswers(model, "b", asked(PROMPTS["b"][:1], [], max_tokens=3)),
        OfferedAnswers(model, None, asked(PROMPTS["c"], [])),
    ]
    answer_together(offers)
    for offer in offers:
        assert offer.answers == alone(model, offer.adapter, offer.questions)
    assert offers[0].answers is not None
    assert len(offers[0].answers[0]) <= 3
    assert offers[1].answers is not None
    assert len(offers[1].answers[0]) == 3


def test_runs_whose_answers_are_over_are_read_no_more(model, monkeypatch):
    rows, real = [], type(model).decode_apart

    def counted(self, cache, slots, ids, adapters):
        rows.append(list(slots))
        return real(self, cache, slots, ids, adapters)

    monkeypatch.setattr(type(model), "decode_apart", counted)
    offers = [OfferedAnswers(model, name, asked(PROMPTS[name], [], max_tokens=most)) for name, most in (("a", 9), ("b", 4), ("c", 7))]
    answer_together(offers)
    # The longest first: b, a, c. The first token comes of the prompt; b is over after 4, and with c, after 7, more than half of them.
    assert rows == [[0, 1, 2, 3, 4, 5]] * 6 + [[2, 3]] * 2
    for offer in offers:
        assert offer.answers == alone(model, offer.adapter, offer.questions)


def test_each_runs_time_is_its_own(model, monkeypatch):
    now = iter(range(10_000))
    monkeypatch.setattr(answers.time, "perf_counter", lambda: float(next(now)))
    offers = [OfferedAnswers(model, name, asked(PROMPTS[name], [], seconds=most)) for name, most in (("a", 3.0), ("b", 4.0))]
    answer_together(offers)
    # Begun at 1.0, four prompts until 5.0, a look a token: the fourth sees 9.0, and 8.0 was the limit.
    assert [len(answer) for offer in offers for answer in offer.answers or []] == [4] * 4


def test_who_may_ask_with_others(tmp_path):
    decoder, general = (load_model(build(family, tmp_path / family)) for family in ("llama", "olmo2"))
    assert may_ask_together(decoder, "a")
    assert not may_ask_together(decoder, None), "one whose weights all learn has its model alone"
    assert not may_ask_together(general, "a"), "there is one adapter at a time there"


def test_an_adapter_that_has_moved_answers_as_it_is_now(model):
    offers = [OfferedAnswers(model, name, asked(PROMPTS[name], [])) for name in "ab"]
    answer_together(offers)
    earlier = offers[0].answers
    for parameter in model.adapter_parameters("a"):
        parameter.data.copy_(parameter.data.flip(-1))
    again = [OfferedAnswers(model, name, asked(PROMPTS[name], [])) for name in "ab"]
    answer_together(again)
    assert again[0].answers == alone(model, "a", again[0].questions) != earlier
    assert again[1].answers == offers[1].answers


def test_what_does_not_fit_together_is_left_to_each(model, monkeypatch):
    monkeypatch.setattr("luthier.training.answers._MOST_PLACES", 2 * (9 + 12))
    offers = [OfferedAnswers(model, name, asked(PROMPTS[name], [])) for name in "abc"]
    answer_together(offers)
    assert [offer.answers for offer in offers] == [None, None, None]

    def too_little(*_):
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr("luthier.training.answers._MOST_PLACES", 8192)
    monkeypatch.setattr(type(model), "new_cache", too_little)
    answer_together(offers)
    assert [offer.answers for offer in offers] == [None, None, None]


class Asking(Recorder):
    """Asks two prompts after the base and after each epoch, and takes a while to write checkpoints."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._prompts, self.told = PROMPTS[name], []

    def base_measured(self, report):
        super().base_measured(report)
        return asked(self._prompts, self.told)

    def epoch_done(self, report):
        super().epoch_done(report)
        return asked(self._prompts, self.told)

    def save_checkpoint(self, epoch, step, metrics):
        time.sleep(0.02 * epoch)
        super().save_checkpoint(epoch, step, metrics)


@pytest.mark.parametrize("flat", [True, False], ids=["as on a GPU", "as on a CPU"])
def test_runs_on_one_floor_are_asked_at_once_and_stay_in_step(tmp_path, monkeypatch, flat):
    names, rows = tuple("abc"), rows_of_runs(tuple("abc"))
    sizes: dict[str, list[int]] = {"steps": [], "answers": []}
    for module, kind, name, at in ((together, "steps", "_do", 0), (answers, "answers", "_answered", 1)):
        real = getattr(module, name)

        def counted(*given, real=real, kind=kind, at=at):
            sizes[kind].append(len(given[at]))
            return real(*given)

        monkeypatch.setattr(module, name, counted)
    model, floor, hooks = load_model(MINI), SharedFloor(), {name: Asking(name) for name in names}
    model.flat = flat

    # Whoever is away, for the start of the others or a write, is waited for: what is joined must not hang on how busy the machine is.
    monkeypatch.setattr("luthier.worker.floor._AWAY_SECONDS", 60.0)
    all_there = threading.Barrier(len(names))

    def wait_for_all() -> None:
        all_there.wait(60)

    class Starting(Trainer):
        def turns(self, *, joins: bool = False) -> Turns[TrainResult]:
            work = super().turns(joins=joins)
            yield wait_for_all
            return (yield from work)

    def run(name):
        spec = replace(spec_for(rows[name], epochs=3, batch_size=3, rate=1e-3), lora_rank=4, lora_alpha=8.0)
        trainer = Starting(model, spec, rows[name], None, hooks[name], tmp_path / name, adapter=name)
        Seat(floor, name=name, project=name, weight=1.0, company=lambda: 2).train(trainer, name)

    on_one_floor(floor, names, run)
    assert all(len(hooks[name].told) == 4 for name in names)
    assert hooks["a"].told[0] == alone(model, None, asked(PROMPTS["a"], [])), "the base, before anything was learned"
    for name in names:
        assert hooks[name].told[-1] == alone(model, name, asked(PROMPTS[name], []))
    if flat:
        assert sizes["answers"].count(3) >= 3, "all but for what the runs' own beginnings part"
        assert sizes["steps"].count(3) >= 5
    else:
        # A CPU is busy with one run's step: there they take turns, by time, and nothing keeps their epochs' ends together but the asking.
        assert 3 in sizes["answers"]
        assert not sizes["steps"]
