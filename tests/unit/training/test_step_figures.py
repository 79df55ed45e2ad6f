"""What a step tells of its work: counted from its rows, and nothing where nothing was measured."""

import json
from dataclasses import replace

import pytest
import torch

from luthier.core.specs import TuningMethod
from luthier.models.facts import read_config
from luthier.training import step_figures
from luthier.training.loop import Trainer
from luthier.training.matrix_rate import matrix_rate
from luthier.training.step_figures import StepMeter
from luthier.training.work import Micro, ModelShape, forward_work, shape_of
from tests.support.mini import MINI, load_mini
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for

SHAPE = ModelShape(
    num_parameters=1000,
    vocab_size=50,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    q_size=8,
    kv_size=4,
    mlp_size=16,
    tied_head=True,
    fast=True,
)


def test_every_step_of_a_run_tells_its_tokens_padding_and_memory(tmp_path):
    train, hooks = prepared(), Recorder()
    spec = spec_for(train)
    Trainer(TrainableModel(), spec, train, None, hooks, tmp_path / "state").run()
    batches = train.epoch_batches(batch_size=spec.batch_size, seed=spec.seed, epoch=1)
    for step, batch in zip(hooks.steps, batches, strict=False):
        lengths = [train.examples[index].num_tokens for index in batch]
        assert step.tokens is not None
        assert step.tokens == sum(lengths)
        assert step.padding_share == pytest.approx(1 - sum(lengths) / (len(lengths) * max(lengths)))
        assert step.tokens_per_second is not None
        assert step.tokens_per_second >= step.tokens / step.seconds, "a validation is not part of the rate"
        assert step.memory_bytes is not None
        assert step.memory_bytes > 1_000_000
        assert step.flops_utilization is None, "no rate was measured"


def test_rows_end_to_end_have_no_padding():
    train, model = prepared(), TrainableModel()
    lengths = sorted(range(len(train.examples)), key=lambda index: train.examples[index].num_tokens)
    group = [lengths[0], lengths[-1]]
    meter = StepMeter(model, spec_for(train), None)
    assert meter.figures([group], train.examples, 1.0).padding_share > 0
    model.flat = True
    assert meter.figures([group], train.examples, 1.0).padding_share == 0


@pytest.mark.parametrize(("method", "passes"), [(TuningMethod.LORA, 2), (TuningMethod.FULL, 3)])
def test_utilisation_is_what_the_rows_need_without_padding_over_the_measured_rate(tmp_path, method, passes):
    train, model = prepared(), TrainableModel()
    config = read_config(MINI)
    (tmp_path / "config.json").write_text(json.dumps(config))
    model.folder = tmp_path
    shape = shape_of(config, model.facts)
    group = [0, 1, 2]
    needed = 0.0
    for index in group:
        row = train.examples[index]
        needed += passes * forward_work(Micro(rows=1, longest=row.num_tokens, trained=row.rendered.num_trained), shape)
    meter = StepMeter(model, spec_for(train, method=method), matrix_rate=1e9)
    assert meter.figures([group], train.examples, 2.0).flops_utilization == pytest.approx(needed / 2.0 / 1e9)
    one_by_one = meter.figures([[0], [1], [2]], train.examples, 2.0).flops_utilization
    assert one_by_one == pytest.approx(needed / 2.0 / 1e9), "how rows are put together changes nothing of what they need"
    both = StepMeter(model, replace(spec_for(train, method=method), more_devices=("cpu",)), matrix_rate=1e9)
    assert both.figures([group], train.examples, 2.0).flops_utilization == pytest.approx(needed / 2.0 / 2e9)


def test_on_gpus_the_memory_is_that_of_the_fullest(monkeypatch):
    taken = {torch.device("cuda:0"): 5, torch.device("cuda:1"): 7}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", taken.__getitem__)
    assert step_figures._memory_bytes(list(taken)) == 7
    assert step_figures._memory_bytes([torch.device("cuda:0")]) == 5


def test_the_rate_is_measured_for_known_shapes_only_and_draws_no_random_numbers():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    rate = matrix_rate(SHAPE, device=torch.device("cpu"), dtype=torch.float32, seconds=0.01)
    assert rate is not None
    assert rate > 1e5
    assert torch.equal(torch.get_rng_state(), before)
    unknown = ModelShape(**{**{name: getattr(SHAPE, name) for name in SHAPE.__slots__}, "fast": False})
    assert matrix_rate(unknown, device=torch.device("cpu"), dtype=torch.float32) is None


def test_a_model_answers_the_same_bits_after_its_rate_was_measured():
    model = load_mini()
    ids, lengths = torch.arange(12)[None] + 40, torch.tensor([12])
    at = (torch.zeros(3, dtype=torch.int64), torch.tensor([2, 5, 11]))
    before = model.logits_at(ids, lengths, *at)
    shape = shape_of(read_config(model.folder), model.facts)
    assert matrix_rate(shape, device=model.device, dtype=model.all_parameters()[0].dtype) is not None
    assert torch.equal(model.logits_at(ids, lengths, *at), before)
