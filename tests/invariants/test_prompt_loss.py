"""A prompt's tokens count with their weight, however a step is cut and laid out; what is told of answers stays that of answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from luthier.chat.renderer import Renderer
from luthier.core.conversation import Conversation, Message, Role
from luthier.core.row_losses import read_epoch
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.models.facts import read_config
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.training import packing
from luthier.training.attach import ADAPTER_NAME, attach
from luthier.training.dry_run import dry_run
from luthier.training.loop import Trainer
from luthier.training.methods import measured_by, objective_of
from luthier.training.objective import Totals
from luthier.training.packing import laid_out, step_forwards
from luthier.training.plan import plan_run
from luthier.training.prompt_loss import PromptedObjective, prompt_tokens
from luthier.training.sft import Room, SupervisedObjective, micro_batches
from luthier.training.work import micro_of, shape_of
from tests.support.mini import MINI
from tests.support.tiny_models import build
from tests.support.token_rows import spoken_rows
from tests.support.trainable_model import Recorder, spec_for

WEIGHT = 0.25


@pytest.fixture(params=["llama", "gpt2", "mamba"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build(request.param, tmp_path / request.param)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    torch.set_num_threads(1)
    return build("llama", tmp_path / "llama")


def test_prompts_are_what_others_say_and_neither_marks_nor_silent_answers():
    texts = ((Role.SYSTEM, "Be brief."), (Role.USER, "Say one."), (Role.ASSISTANT, "Two."), (Role.USER, "Say four."))
    silent = [Message(role=role, content=text, weight=0.0) for role, text in texts]
    answer = Message(role=Role.ASSISTANT, content="Four.", weight=1.0)
    renderer = Renderer.load(MINI)
    rendered = renderer.example(Conversation(messages=(*silent, answer)))
    chosen = prompt_tokens(rendered)
    assert not (chosen & (rendered.weights_T > 0)).any()
    said = renderer.tokenizer.decode(rendered.ids_T[chosen].tolist())
    assert said.replace(" ", "") == "Bebrief.Sayone.Sayfour."


def test_the_first_token_and_what_was_cut_off_are_no_part_of_a_prompt():
    row = spoken_rows().examples[2].rendered
    assert row.spans[0].role == "user"
    assert not prompt_tokens(row)[0]
    cut = replace(row, ids_T=row.ids_T[:2], weights_T=row.weights_T[:2])
    assert prompt_tokens(cut).tolist() == [False, row.spans[0].end > 1]


def learn(
    model: LanguageModel, spec: TrainingSpec, groups: list[list[int]], source: Prepared, objective: SupervisedObjective
) -> tuple[Totals, list[torch.Tensor], list[torch.Tensor]]:
    """Sums, losses by token and gradients of one step whose rows are cut in these groups, divided as the loop does it."""
    name = ADAPTER_NAME if spec.method is TuningMethod.LORA else None
    parameters = attach(model, spec, None, name)
    if name:
        generator = torch.Generator().manual_seed(7)
        for parameter in parameters:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    totals, losses, count = Totals(), [], objective.count(source, [row for group in groups for row in group])
    with model.use_adapter(name):
        for group in groups:
            with laid_out(model, spec):
                sums = objective.sums(model, source, group)
                (sums.loss / count).backward()
            assert sums.losses_N is not None
            totals, losses = totals.plus(sums), [*losses, sums.losses_N]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in parameters]
    for parameter in parameters:
        parameter.grad = None
        parameter.requires_grad_(False)
    model.remove_adapter(ADAPTER_NAME)
    assert totals.count == pytest.approx(count)
    return totals, losses, gradients


def check_equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> None:
    largest = max(float(gradient.abs().max()) for gradient in one)
    assert largest > 1e-3
    for ours, theirs in zip(one, two, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * largest)


def test_the_loss_is_the_formula_and_what_is_told_of_answers_is_theirs(folder):
    source, model = spoken_rows(6), load_model(folder)
    rows = range(6)
    found = PromptedObjective(WEIGHT).sums(model, source, rows)
    plain = SupervisedObjective().sums(model, source, rows)
    loss, answers, prompts = 0.0, 0, 0
    for example in source.examples:
        ids, weights = torch.from_numpy(example.rendered.ids_T)[None], torch.from_numpy(example.rendered.weights_T)
        at = torch.arange(ids.shape[1] - 1)
        logits = model.logits_at(ids, torch.tensor([ids.shape[1]]), torch.zeros_like(at), at)
        losses = F.cross_entropy(logits, ids[0, 1:], reduction="none").detach()
        chosen = torch.from_numpy(prompt_tokens(example.rendered))
        loss += float((losses * weights[1:]).sum()) + WEIGHT * float(losses[chosen[1:]].sum())
        answers, prompts = answers + int((weights > 0).sum()), prompts + int(chosen.sum())
    assert prompts > answers
    assert float(found.loss.detach()) == pytest.approx(loss, rel=1e-5)
    assert found.count == pytest.approx(answers + WEIGHT * prompts)
    assert (found.num_tokens, found.num_scored, int(found.num_correct)) == (answers, answers, int(plain.num_correct))
    assert found.losses_N is not None
    assert plain.losses_N is not None
    torch.testing.assert_close(found.losses_N, plain.losses_N, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_accumulated_equals_whole(folder, method):
    source, model = spoken_rows(12), load_model(folder)
    spec, objective = spec_for(source, method=method), PromptedObjective(WEIGHT)
    whole = learn(model, spec, [list(range(12))], source, objective)
    cut = learn(model, spec, [[11, 3, 5], [0, 1, 2, 4], [10], [6, 7, 8, 9]], source, objective)
    assert cut[0].loss == pytest.approx(whole[0].loss, rel=1e-5)
    assert (cut[0].num_correct, cut[0].num_tokens) == (whole[0].num_correct, whole[0].num_tokens)
    check_equal(cut[2], whole[2])


@pytest.mark.parametrize("method", list(TuningMethod))
def test_packed_equals_unpacked(llama, method):
    source, model = spoken_rows(10), load_model(llama)
    spec, objective, groups = spec_for(source, method=method), PromptedObjective(WEIGHT), [[4, 2, 9, 0], [1, 3, 5, 6, 7, 8]]
    plain, packed = learn(model, spec, groups, source, objective), learn(model, replace(spec, packing=True), groups, source, objective)
    assert packed[0].loss == pytest.approx(plain[0].loss, rel=1e-5)
    assert packed[0].num_correct == plain[0].num_correct
    for ours, theirs in zip(packed[1], plain[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    check_equal(packed[2], plain[2])


def test_a_weight_that_vanishes_is_none_and_zero_is_the_plain_objective(llama):
    source, model = spoken_rows(8), load_model(llama)
    spec, groups = spec_for(source), [list(range(8))]
    tiny, plain = (learn(model, spec, groups, source, objective) for objective in (PromptedObjective(1e-9), SupervisedObjective()))
    assert tiny[0].loss / tiny[0].count == pytest.approx(plain[0].loss / plain[0].count, rel=1e-5)
    check_equal(tiny[2], plain[2])
    assert type(objective_of(spec)) is SupervisedObjective
    prompted = objective_of(replace(spec, prompt_loss_weight=WEIGHT))
    assert type(prompted) is PromptedObjective
    assert type(measured_by(prompted)) is SupervisedObjective


def test_a_run_is_measured_by_its_answers_and_trained_on_both(folder, tmp_path):
    """At a rate of zero held-out losses, accuracies and losses by line are those of a plain run; the training loss is the base's."""
    source, valid = spoken_rows(10), spoken_rows(5)
    spec = replace(spec_for(source, batch_size=5, epochs=2, rate=0.0), validation_every=1)
    seen: dict[str, tuple[Recorder, np.ndarray]] = {}
    for name, weight, held_out in (("plain", 0.0, valid), ("prompts", WEIGHT, valid), ("alone", WEIGHT, None)):
        hooks, run = Recorder(), tmp_path / name
        run.mkdir()
        Trainer(load_model(folder), replace(spec, prompt_loss_weight=weight), source, held_out, hooks, run / "state", run_dir=run).run()
        seen[name] = hooks, read_epoch(run, 2)
    (plain, plain_rows), (prompts, rows), (alone, _) = seen.values()
    assert prompts.base == plain.base
    assert [s.valid_loss for s in prompts.steps] == [s.valid_loss for s in plain.steps]
    assert [(e.valid_loss, e.sample_loss) for e in prompts.epochs] == [(e.valid_loss, e.sample_loss) for e in plain.epochs]
    assert [s.token_accuracy for s in prompts.steps] == [s.token_accuracy for s in plain.steps]
    assert [s.num_tokens for s in prompts.steps] == [s.num_tokens for s in plain.steps]
    assert rows["line"].tolist() == plain_rows["line"].tolist() == list(range(1, 11))
    np.testing.assert_allclose(rows["loss"], plain_rows["loss"], rtol=1e-4)
    assert all(abs(a.loss - b.loss) > 1e-3 for a, b in zip(prompts.steps, plain.steps, strict=True))
    assert not alone.base[0].held_out
    assert alone.base[0].loss == pytest.approx(alone.epochs[0].train_loss, rel=1e-4)
    assert alone.base[0].accuracy == pytest.approx(alone.epochs[0].train_accuracy)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_resumes_bit_for_bit(llama, tmp_path, stop, packed, monkeypatch):
    monkeypatch.setattr(packing, "most_tokens_of", lambda *_: 90)
    source = spoken_rows()
    spec = replace(spec_for(source, batch_size=6, epochs=2, rate=1e-3), packing=packed, prompt_loss_weight=0.1, neftune_alpha=5.0)
    straight, whole = load_model(llama), Recorder()
    Trainer(straight, spec, source, None, whole, tmp_path / "straight").run()
    first, second, model = Recorder(stop_after=stop), Recorder(), load_model(llama)
    Trainer(load_model(llama), spec, source, None, first, tmp_path / "torn").run()
    Trainer(model, spec, source, None, second, tmp_path / "torn").run()
    assert [(s.step, s.loss) for s in first.steps + second.steps] == [(s.step, s.loss) for s in whole.steps]
    assert second.epochs[-1].train_loss == whole.epochs[-1].train_loss
    for ours, theirs in zip(model.adapter_parameters(ADAPTER_NAME), straight.adapter_parameters(ADAPTER_NAME), strict=True):
        assert torch.equal(ours, theirs)


def test_forwards_are_cut_and_foretold_as_if_every_token_were_scored(llama, tmp_path):
    source, model = spoken_rows(), load_model(llama)
    spec = replace(spec_for(source, batch_size=6, epochs=1), prompt_loss_weight=WEIGHT)
    tokens = [example.num_tokens for example in source.examples]
    room = Room(activation_bytes=1 << 40, most_logits=90 * model.facts.vocab_size)
    groups = step_forwards(spec, range(18), source, model.facts, room)
    assert len(groups) > len(micro_batches(range(18), source.examples, model.facts, room))
    assert all(sum(tokens[row] for row in group) <= 90 for group in groups)
    assert [row for group in groups for row in group] == list(range(18))
    assert micro_of([0, 1], source.examples, all_scored=True).trained == tokens[0] + tokens[1]
    shape = shape_of(read_config(llama), model.facts)
    plan, plain = (plan_run(replace(spec, prompt_loss_weight=w), source, None, model.facts, shape) for w in (WEIGHT, 0.0))
    assert sum(micro.trained for step in plan.steps for micro in step.micros) == sum(tokens) == sum(micro.trained for micro in plan.base)
    assert sum(step.work for step in plan.steps) > sum(step.work for step in plain.steps)
    assert plan.trained_per_epoch == plain.trained_per_epoch == source.num_trained
    place = tmp_path / "trial"
    place.mkdir()
    assert dry_run(model, plan, source, None, place, seconds=0.5).steps
