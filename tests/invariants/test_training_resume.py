"""A run that was interrupted ends bit for bit as one that was not: weights, losses, epoch means and reported metrics (I5, I8)."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.examples import Dataset
from luthier.core.specs import TuningMethod
from luthier.data.stage import collect
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.preprocessing.stage import prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from tests.support.examples import EXAMPLES
from tests.support.four_bits import needs_bitsandbytes
from tests.support.mini import MINI, load_mini
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for


class _Crash(Exception):
    """The process is gone."""


class _Crashing(Recorder):
    """Dies inside the report of one step, as if killed there."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step_done(self, report):
        super().step_done(report)
        if report.step == self.at:
            raise _Crash


def _weights(model: LanguageModel, method: TuningMethod) -> list[torch.Tensor]:
    parameters = model.adapter_parameters(ADAPTER_NAME) if method is TuningMethod.LORA else model.all_parameters()
    return [p.detach().clone() for p in parameters]


def _merged(*parts: Recorder) -> list[object]:
    """What a reader of the log sees: for each step and epoch the later report."""
    whole = Recorder()
    whole.base = list({b: b for part in parts for b in part.base})
    whole.steps = list({s.step: s for part in parts for s in part.steps}.values())
    whole.epochs = list({e.epoch: e for part in parts for e in part.epochs}.values())
    whole.checkpoints = list({c[1]: c for part in parts for c in part.checkpoints}.values())
    whole.news = list({(type(n), n.step): n for part in parts for n in part.news}.values())
    return whole.numbers()


def _compare(tmp_path, make: Callable[[], LanguageModel], train, valid, spec, interruptions: list[Recorder]) -> None:
    straight, reference = make(), Recorder()
    end = Trainer(straight, spec, train, valid, reference, tmp_path / "straight").run()

    parts: list[Recorder] = []
    for hooks in [*interruptions, Recorder()]:
        parts.append(hooks)
        model = make()
        # Numbers drawn by others in the meantime must not matter.
        torch.rand(3)
        try:
            result = Trainer(model, spec, train, valid, hooks, tmp_path / "torn").run()
        except _Crash:
            continue
        if not result.stopped:
            assert result == end
            assert all(torch.equal(a, b) for a, b in zip(_weights(model, spec.method), _weights(straight, spec.method), strict=True))
    assert _merged(*parts) == reference.numbers()


@pytest.mark.parametrize("method", list(TuningMethod))
@pytest.mark.parametrize("stop", range(18))
def test_a_stop_after_any_step_changes_nothing(tmp_path, method, stop):
    train, valid = prepared(), prepared(12, seed=9)
    _compare(tmp_path, TrainableModel, train, valid, spec_for(train, method=method), [Recorder(stop_after=stop)])


@pytest.mark.parametrize("crash", range(1, 19))
def test_a_crash_at_any_step_changes_nothing(tmp_path, crash):
    train, valid = prepared(), prepared(12, seed=9)
    _compare(tmp_path, TrainableModel, train, valid, spec_for(train), [_Crashing(at=crash)])


def test_many_interruptions_change_nothing(tmp_path):
    train = prepared()
    hooks = [_Crashing(at=2), Recorder(stop_after=3), _Crashing(at=9), _Crashing(at=11), Recorder(stop_after=1)]
    _compare(tmp_path, TrainableModel, train, None, spec_for(train), hooks)


def test_a_damaged_newest_state_costs_steps_and_nothing_else(tmp_path):
    train = prepared()
    spec = spec_for(train)
    reference = Recorder()
    Trainer(TrainableModel(), spec, train, None, reference, tmp_path / "straight").run()
    first = Recorder(stop_after=9)
    Trainer(TrainableModel(), spec, train, None, first, tmp_path / "torn", resume_share=0.0).run()
    newest = max((tmp_path / "torn").iterdir())
    (newest / "state.safetensors").write_bytes(b"torn")
    second = Recorder()
    Trainer(TrainableModel(), spec, train, None, second, tmp_path / "torn").run()
    assert 1 < second.steps[0].step <= 9
    assert _merged(first, second) == reference.numbers()


def test_a_finished_run_is_not_trained_again(tmp_path):
    train = prepared()
    results = []
    for hooks in (Recorder(), Recorder()):
        model = TrainableModel()
        results.append((Trainer(model, spec_for(train), train, None, hooks, tmp_path / "state").run(), _weights(model, TuningMethod.LORA)))
    assert hooks.steps == []
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))


def _head(dataset: Dataset, count: int) -> Dataset:
    return Dataset(
        file_id=dataset.file_id,
        row_format=dataset.row_format,
        examples=dataset.examples[:count],
        num_lines=count,
        fingerprint=dataset.fingerprint,
    )


@pytest.mark.parametrize("method", list(TuningMethod))
def test_the_embedded_model_resumes_bit_for_bit(tmp_path, method):
    dataset = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    train = prepare(_head(dataset, 16), Renderer.load(MINI), max_length=64, role="training")
    spec = spec_for(train, method=method, epochs=2, rate=1e-3)
    _compare(tmp_path, load_mini, train, None, spec, [_Crashing(at=3), Recorder(stop_after=4)])


@pytest.mark.parametrize("method", list(TuningMethod))
def test_the_path_through_transformers_trains_alike_and_resumes_bit_for_bit(tmp_path, method):
    from luthier.models.facts import read_facts
    from luthier.models.transformers_model import TransformersModel

    def load() -> LanguageModel:
        return TransformersModel(MINI, read_facts(MINI), device="cpu", dtype=torch.float32)

    dataset = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    train = prepare(_head(dataset, 12), Renderer.load(MINI), max_length=64, role="training")
    spec = spec_for(train, method=method, epochs=2, rate=1e-3)
    _compare(tmp_path, load, train, None, spec, [_Crashing(at=2), Recorder(stop_after=2)])

    here, there = Recorder(), Recorder()
    Trainer(load_mini(), spec, train, None, here, tmp_path / "decoder").run()
    Trainer(load(), spec, train, None, there, tmp_path / "transformers").run()
    assert here.base[0].loss == pytest.approx(there.base[0].loss, rel=1e-4)
    assert here.steps[0].loss == pytest.approx(there.steps[0].loss, rel=1e-4)
    # Adapters start from other random numbers on the two paths; a full fine-tune must go the same way.
    tolerance = 1e-2 if method is TuningMethod.FULL else 0.25
    assert [e.train_loss for e in here.epochs] == pytest.approx([e.train_loss for e in there.epochs], rel=tolerance)


@needs_bitsandbytes
@pytest.mark.parametrize("family", ["luthier-mini", "gpt2"])
def test_over_a_base_in_4_bits_a_run_resumes_bit_for_bit(tmp_path, family):
    folder = MINI if family == "luthier-mini" else build(family, tmp_path / family, seed=7)
    dataset = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    train = prepare(_head(dataset, 12), Renderer.load(MINI), max_length=64, role="training")
    spec = replace(spec_for(train, epochs=2, rate=1e-3), quantization="nf4")
    _compare(tmp_path, lambda: load_model(folder, quantization="nf4"), train, None, spec, [_Crashing(at=3), Recorder(stop_after=2)])
