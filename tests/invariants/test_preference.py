"""Learning from pairs: ln 2 at step 0, the gradient of the formula, one sum however a batch is cut, and a resume to the last bit."""

import math
from dataclasses import replace

import pytest
import torch

from luthier.core.specs import LoraKind, TuningMethod
from luthier.models import decoder
from luthier.models.load import load_model
from luthier.preprocessing.batches import collate
from luthier.training import against_reference
from luthier.training.against_reference import ReferenceObjective
from luthier.training.dpo import dpo_loss
from luthier.training.evaluate import measure
from luthier.training.reference import ReferenceStore
from luthier.training.turns import run_alone
from tests.support.four_bits import needs_bitsandbytes
from tests.support.mini import MINI, load_mini
from tests.support.preference_rows import pair_spec, pairs, parent_adapter
from tests.support.preference_runs import Crashing, figures, formality, gradient, numbers, plain_logp, run, same_in_the_end
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, TrainableModel

METHODS = pytest.mark.parametrize("method", list(TuningMethod))


@pytest.mark.parametrize(
    ("method", "parent"), [(TuningMethod.LORA, False), (TuningMethod.LORA, True), (TuningMethod.FULL, False)], ids=["lora", "tuned", "full"]
)
def test_at_step_0_the_loss_is_ln_2_and_nothing_is_preferred(tmp_path, method, parent):
    train, valid = pairs(), pairs(9, seed=5)
    options = {"parent_adapter": parent_adapter(tmp_path / "parent")} if parent else {}
    _, hooks = run(tmp_path / "run", TrainableModel(), pair_spec(train, method=method), train, valid, **options)
    assert hooks.base[0].loss == pytest.approx(math.log(2), abs=1e-7)
    assert (figures(hooks.base[0])["reward_margin"], figures(hooks.base[0])["reward_accuracy"]) == (0.0, 0.5)
    first = hooks.steps[0]
    assert first.loss == pytest.approx(math.log(2), abs=1e-6)
    for name in ("reward_chosen", "reward_rejected", "reward_margin"):
        assert figures(first)[name] == pytest.approx(0.0, abs=1e-6)
    assert hooks.epochs[-1].train_loss < 0.9 * math.log(2), "and it learns from there"


@METHODS
def test_the_embedded_model_starts_at_ln_2_too(tmp_path, method):
    train = formality()
    _, hooks = run(tmp_path, load_mini(), pair_spec(train, method=method, epochs=1, rate=1e-4), train)
    assert hooks.steps[0].loss == pytest.approx(math.log(2), abs=1e-4)
    assert figures(hooks.steps[0])["reward_margin"] == pytest.approx(0.0, abs=1e-4)


@METHODS
@pytest.mark.parametrize("flat", [False, True], ids=["padded", "flat"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_loss_gradient_and_metrics_are_those_of_the_formula(tmp_path, method, flat, beta, monkeypatch):
    """Rafailov et al. 2023, equation 7, written down once more with nothing but autograd."""
    monkeypatch.setattr(decoder, "CHUNK_NUMBERS", 8192 * 3)
    model = load_model(build("llama", tmp_path / "m"), dtype=torch.float64)
    source = formality(count=5)
    rows = range(len(source.examples))
    with torch.no_grad():
        reference = torch.stack([plain_logp(model, source.examples[row]) for row in rows])
    objective = ReferenceObjective(beta, dpo_loss)
    model.flat = flat
    assert run_alone(objective.prepare(model, [source], adapter=None, store=ReferenceStore(tmp_path / "r", "x"), hooks=Recorder()))

    adapter = None
    parameters = model.all_parameters()
    if method is TuningMethod.LORA:
        adapter = "a"
        model.add_adapter("a", rank=4, alpha=8.0, seed=1)
        parameters = model.adapter_parameters("a")
    generator = torch.Generator().manual_seed(4)
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)

    with model.use_adapter(adapter):
        sums = objective.sums(model, source, rows)
        (sums.loss / sums.count).backward()
        ours = [gradient(parameter).clone() for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        model.flat = False
        policy = torch.stack([plain_logp(model, source.examples[row]) for row in rows])
        rewards = beta * (policy - reference)
        chosen, rejected = rewards[0::2], rewards[1::2]
        loss = -torch.log(torch.sigmoid(chosen - rejected)).mean()
        loss.backward()

    assert sums.count == 5
    assert sums.parts is not None
    assert float(sums.loss.detach()) / 5 == pytest.approx(float(loss.detach()), rel=1e-5)
    for mine, parameter in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6)
    means = objective.means(sums.parts.tolist(), 5)
    policy = policy.detach()
    assert means == pytest.approx(
        {
            "reward_chosen": float(chosen.detach().mean()),
            "reward_rejected": float(rejected.detach().mean()),
            "reward_margin": float((chosen - rejected).detach().mean()),
            "reward_accuracy": float((chosen > rejected).double().mean()),
            "logp_chosen": float(policy[0::2].mean()),
            "logp_rejected": float(policy[1::2].mean()),
            "prefers": float((policy[0::2] > policy[1::2]).double().mean()),
        },
        rel=1e-4,
        abs=1e-5,
    )


@METHODS
def test_how_a_batch_is_cut_changes_neither_loss_nor_gradient(tmp_path, method):
    train = pairs()
    spec = replace(pair_spec(train, method=method, batch_size=16), max_grad_norm=1e9)
    _, whole = run(tmp_path / "whole", TrainableModel(), spec, train)
    model = TrainableModel()
    model.facts = replace(model.facts, hidden_size=700_000)
    _, cut = run(tmp_path / "cut", model, spec, train)
    for a, b in zip(whole.steps, cut.steps, strict=True):
        assert (a.loss, a.grad_norm) == (pytest.approx(b.loss, rel=1e-4), pytest.approx(b.grad_norm, rel=1e-3))
        assert a.preference == pytest.approx(b.preference, rel=1e-3, abs=1e-5)


def test_pairs_side_by_side_are_as_pairs_alone(tmp_path):
    model, source = load_mini(adapter="moved"), formality()
    objective = ReferenceObjective(0.1, dpo_loss)
    run_alone(objective.prepare(model, [source], adapter=None, store=ReferenceStore(tmp_path, "x"), hooks=Recorder()))
    with model.use_adapter("moved"):
        whole = measure(model, source, objective=objective)
        alone = [measure(model, source, [pair], objective=objective) for pair in range(12)]
    assert len({source.examples[row].num_tokens for row in range(24)}) > 4, "padding is at work"
    assert whole.loss == pytest.approx(sum(m.loss for m in alone) / 12, rel=1e-5)
    for name, value in figures(whole).items():
        assert value == pytest.approx(sum(figures(m)[name] for m in alone) / 12, rel=1e-4, abs=1e-5)


def test_steps_take_pairs_that_stay_together(tmp_path):
    train = pairs(10)
    for batch in train.epoch_batches(batch_size=4, seed=11, epoch=1):
        assert all(left + 1 == right and left % 2 == 0 for left, right in zip(batch[::2], batch[1::2], strict=True))
    rows = [row for batch in train.epoch_batches(batch_size=4, seed=11, epoch=2) for row in batch]
    assert sorted(rows) == list(range(20))
    _, hooks = run(tmp_path, TrainableModel(), pair_spec(train), train)
    assert sorted(len(step.lines) for step in hooks.steps[:3]) == [2, 4, 4], "a pair's line is told once"
    assert sum(step.num_tokens for step in hooks.steps if step.epoch == 1) == train.num_trained


@METHODS
def test_it_learns_to_prefer(tmp_path, method):
    train = pairs()
    model, hooks = TrainableModel(), Recorder()
    result, _ = run(tmp_path, model, pair_spec(train, method=method, epochs=8), train, hooks=hooks)
    assert figures(hooks.epochs[-1])["reward_accuracy"] == 1.0
    assert hooks.epochs[-1].train_loss < 0.3 < hooks.epochs[0].train_loss
    assert figures(hooks.epochs[-1])["prefers"] > figures(hooks.base[0])["prefers"]
    assert result.metrics["train_reward_margin"] > 1.0
    assert result.tokens_seen == 8 * train.num_tokens


# ------------------------------------------------------------------------------------------------------------------ resume


@METHODS
@pytest.mark.parametrize("stop", range(0, 18, 2))
def test_a_stop_after_any_step_changes_nothing(tmp_path, method, stop):
    train, valid = pairs(), pairs(9, seed=5)
    same_in_the_end(tmp_path, TrainableModel, train, valid, pair_spec(train, method=method), [Recorder(stop_after=stop)])


@pytest.mark.parametrize("crash", range(1, 19))
def test_a_crash_at_any_step_changes_nothing(tmp_path, crash):
    train, valid = pairs(), pairs(9, seed=5)
    parts = same_in_the_end(tmp_path, TrainableModel, train, valid, pair_spec(train), [Crashing(step=crash)])
    assert [report.reused for report in parts[1].references] == [True], "the reference is measured once"


@pytest.mark.parametrize("asked", [1, 2, 3])
def test_a_crash_while_the_reference_is_measured_changes_nothing(tmp_path, asked):
    train, valid = pairs(70), pairs(20, seed=5)
    options = {"resume_seconds": 0.0, "parent_adapter": parent_adapter(tmp_path / "parent")}
    same_in_the_end(tmp_path, TrainableModel, train, valid, pair_spec(train, epochs=1), [Crashing(asked=asked)], **options)


def test_the_embedded_model_goes_on_bit_for_bit(tmp_path):
    train = formality()
    spec = pair_spec(train, epochs=2, rate=1e-4)
    same_in_the_end(tmp_path, load_mini, train, None, spec, [Crashing(asked=1), Crashing(step=2), Recorder(stop_after=2)])


@pytest.mark.parametrize(
    "option",
    [{"lora_kind": LoraKind.DORA}, {"lora_kind": LoraKind.RSLORA}, {"gradient_checkpointing": True}],
    ids=["dora", "rslora", "again"],
)
def test_other_adapters_and_blocks_made_again_learn_from_pairs_and_go_on_bit_for_bit(tmp_path, option):
    train = formality()
    spec = replace(pair_spec(train, epochs=2, rate=1e-3), **option)
    _, hooks = run(tmp_path / "first", load_mini(), spec, train)
    assert hooks.steps[0].loss == pytest.approx(math.log(2), abs=1e-4)
    assert hooks.steps[-1].loss < hooks.steps[0].loss
    same_in_the_end(tmp_path, load_mini, train, None, spec, [Crashing(asked=1), Recorder(stop_after=2)])


def _counted(monkeypatch):
    """Forwards over answers, by whether gradients were on."""
    forwards = []
    original = against_reference.score_answers

    def counting(model, batch):
        forwards.append((torch.is_grad_enabled(), len(batch.lengths_B)))
        return original(model, batch)

    monkeypatch.setattr(against_reference, "score_answers", counting)
    return forwards


def test_the_reference_is_measured_once_and_then_read(tmp_path, monkeypatch):
    forwards = _counted(monkeypatch)
    train = pairs()
    spec = pair_spec(train, epochs=1)
    run(tmp_path / "a", TrainableModel(), spec, train, hooks=Recorder(stop_after=2))
    assert sum(rows for gradients, rows in forwards if not gradients) == 42, "every row once, and no other forward without gradients"
    forwards.clear()
    _, hooks = run(tmp_path / "a", TrainableModel(), spec, train)
    assert [rows for gradients, rows in forwards if not gradients] == [2], "only the sample example at the epoch's end"
    assert [(r.done, r.total, r.reused) for r in hooks.references] == [(21, 21, True)]


@pytest.mark.parametrize("fault", ["bytes", "gone", "manifest"])
def test_a_damaged_reference_is_measured_anew_from_the_start_and_not_from_what_was_learned(tmp_path, fault):
    train, valid = pairs(), pairs(9, seed=5)
    spec, options = pair_spec(train), {"parent_adapter": parent_adapter(tmp_path / "parent")}
    end, reference = run(tmp_path / "straight", TrainableModel(), spec, train, valid, **options)
    first = Recorder(stop_after=7)
    run(tmp_path / "torn", TrainableModel(), spec, train, valid, first, **options)
    (folder,) = (tmp_path / "torn" / "reference").iterdir()
    if fault == "bytes":
        path = folder / "reference.safetensors"
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    elif fault == "gone":
        (folder / "reference.safetensors").unlink()
    else:
        (folder / "manifest.json").write_text("{")
    result, second = run(tmp_path / "torn", TrainableModel(), spec, train, valid, **options)
    assert [r.reused for r in second.references] == [False]
    assert result == end
    assert numbers(first, second) == reference.numbers()


def test_a_reference_of_another_run_is_not_taken(tmp_path):
    train = pairs()
    run(tmp_path / "a", TrainableModel(), pair_spec(train, epochs=1), train)
    other = replace(pair_spec(train, epochs=1), base_revision="another")
    _, hooks = run(tmp_path / "a", TrainableModel(seed=1), other, train)
    assert [r.reused for r in hooks.references] == [False]
    assert hooks.steps[0].loss == pytest.approx(math.log(2), abs=1e-6)


def test_full_tuning_after_a_crash_keeps_the_reference_of_the_start(tmp_path):
    train = pairs()
    spec = pair_spec(train, method=TuningMethod.FULL)
    same_in_the_end(tmp_path, TrainableModel, train, None, spec, [Crashing(step=9), Crashing(step=12)])


def test_a_stop_while_the_reference_is_measured_ends_the_attempt_with_nothing_learned(tmp_path):
    train = pairs()
    result, hooks = run(tmp_path, TrainableModel(), pair_spec(train), train, hooks=Recorder(stop_after=0))
    assert (result.stopped, result.steps) == (True, 0)
    assert (hooks.steps, hooks.base) == ([], [])


def test_token_losses_add_up_to_the_summed_loss():
    model, source = load_mini(), formality(count=3)
    batch = collate(source.examples)
    ids = torch.from_numpy(batch.ids_BT)
    rows, columns = (torch.from_numpy(a) for a in batch.weights_BT.nonzero())
    places = (ids, torch.from_numpy(batch.lengths_B), rows, columns - 1, ids[rows, columns])
    loss, hits, _ = model.losses_at(*places, torch.ones(len(rows)))
    losses_N, hits_N = model.token_losses_at(*places)
    assert float(losses_N.sum()) == pytest.approx(float(loss), rel=1e-6)
    assert torch.equal(hits_N, hits)


@needs_bitsandbytes
def test_the_reference_of_a_base_in_4_bits_is_that_base(tmp_path):
    train = formality(count=8)
    # At the rate of the other tests the last of so few steps jump, and which way hangs on the processor's order of sums.
    spec = replace(pair_spec(train), quantization="nf4", learning_rate=0.03)
    _, hooks = run(tmp_path / "run", load_model(MINI, quantization="nf4"), spec, train)
    assert hooks.base[0].loss == pytest.approx(math.log(2), abs=1e-7)
    assert hooks.steps[0].loss == pytest.approx(math.log(2), abs=1e-6)
    assert hooks.epochs[-1].train_loss < math.log(2)
