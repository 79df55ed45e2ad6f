"""The trainer on a GPU: the curve of the CPU, and a resume that goes on where it was."""

import hashlib
from dataclasses import replace

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.specs import TuningMethod
from luthier.data.stage import collect
from luthier.models.facts import read_facts
from luthier.models.load import load_model
from luthier.preprocessing.stage import prepare
from luthier.training.loop import Trainer
from tests.support.examples import EXAMPLES
from tests.support.mini import MINI
from tests.support.tiny_models import build
from tests.support.trainable_model import Recorder, spec_for

ROWS = 64
TRAIN = EXAMPLES / "train.jsonl"
SHA256 = hashlib.sha256(TRAIN.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def rows():
    dataset = collect("file-A", TRAIN, role="training", max_line_bytes=1 << 20, sha256=SHA256)
    return prepare(replace(dataset, examples=dataset.examples[:ROWS]), Renderer.load(MINI), max_length=512, role="training")


def _run(tmp_path, rows, method, *, device, dtype=torch.float32, base=MINI, hooks=None, **changes):
    spec = replace(
        spec_for(rows, method=method, epochs=2, batch_size=8, rate=2e-3 if method is TuningMethod.LORA else 2e-4), lora_rank=16, **changes
    )
    recorder = hooks or Recorder()
    Trainer(load_model(base, device=device, dtype=dtype), spec, rows, None, recorder, tmp_path).run()
    return recorder


@pytest.mark.parametrize("method", list(TuningMethod))
def test_the_curve_is_that_of_the_cpu(tmp_path, rows, method):
    here = _run(tmp_path / "cpu", rows, method, device="cpu")
    there = _run(tmp_path / "cuda", rows, method, device="cuda")
    assert there.base[0].loss == pytest.approx(here.base[0].loss, rel=1e-3)
    assert [s.loss for s in there.steps] == pytest.approx([s.loss for s in here.steps], rel=0.03, abs=0.01)


def test_a_bfloat16_base_learns_the_same(tmp_path, rows):
    here = _run(tmp_path / "cpu", rows, TuningMethod.LORA, device="cpu")
    there = _run(tmp_path / "cuda", rows, TuningMethod.LORA, device="cuda", dtype=torch.bfloat16)
    assert there.epochs[-1].train_loss == pytest.approx(here.epochs[-1].train_loss, rel=0.1, abs=0.03)


def test_all_weights_learn_the_same_in_mixed_precision(tmp_path, rows):
    here = _run(tmp_path / "cpu", rows, TuningMethod.FULL, device="cpu", precision="mixed")
    there = _run(tmp_path / "cuda", rows, TuningMethod.FULL, device="cuda", precision="mixed")
    assert [s.loss for s in there.steps] == pytest.approx([s.loss for s in here.steps], rel=0.03, abs=0.02)
    assert [s.loss for s in there.steps] != [s.loss for s in _run(tmp_path / "exact", rows, TuningMethod.FULL, device="cuda").steps]


@pytest.fixture
def general(tmp_path):
    """A random OLMo 2 over the embedded model's vocabulary: a family of the general path."""
    return build("olmo2", tmp_path / "olmo2", vocab_size=read_facts(MINI).vocab_size)


def test_through_transformers_all_weights_learn_the_same_in_mixed_precision(tmp_path, rows, general):
    runs = [
        _run(tmp_path / precision, rows, TuningMethod.FULL, device="cuda", base=general, precision=precision)
        for precision in ("float32", "mixed")
    ]
    exact, mixed = ([s.loss for s in run.steps] for run in runs)
    assert mixed == pytest.approx(exact, rel=0.02)
    assert mixed != exact


@pytest.mark.parametrize(
    ("method", "precision"), [(TuningMethod.LORA, "float32"), (TuningMethod.FULL, "float32"), (TuningMethod.FULL, "mixed")]
)
def test_a_stopped_run_goes_on(tmp_path, rows, method, precision):
    asked = {"device": "cuda", "precision": precision}
    straight = _run(tmp_path / "straight", rows, method, **asked)
    first = _run(tmp_path / "torn", rows, method, hooks=Recorder(stop_after=5), **asked)
    second = _run(tmp_path / "torn", rows, method, **asked)
    losses = [s.loss for s in (*first.steps, *second.steps)]
    assert losses == pytest.approx([s.loss for s in straight.steps], rel=0.01, abs=0.003)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_and_weighted_prompts_learn_and_a_stopped_run_goes_on(tmp_path, rows, dtype):
    asked = {"device": "cuda", "dtype": dtype, "neftune_alpha": 5.0, "prompt_loss_weight": 0.1}
    straight = _run(tmp_path / "straight", rows, TuningMethod.LORA, **asked)
    first = _run(tmp_path / "torn", rows, TuningMethod.LORA, hooks=Recorder(stop_after=5), **asked)
    second = _run(tmp_path / "torn", rows, TuningMethod.LORA, **asked)
    losses = [s.loss for s in (*first.steps, *second.steps)]
    assert losses == pytest.approx([s.loss for s in straight.steps], rel=0.01, abs=0.003)
    assert straight.epochs[-1].train_loss < straight.base[0].loss
