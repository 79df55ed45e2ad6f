"""A run on two devices learns what it learns on one. Both are the same card here; where there are two cards, also on both."""

from dataclasses import replace

import pytest
import torch

from luthier.core.specs import TuningMethod
from luthier.models.load import load_model
from luthier.training.loop import Trainer
from tests.gpu.test_training import rows  # noqa: F401 - a fixture
from tests.support.mini import MINI
from tests.support.trainable_model import Recorder, spec_for

SECOND = ["cuda:0", pytest.param("cuda:1", marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one card"))]


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize(
    ("method", "dtype"), [(TuningMethod.LORA, torch.float32), (TuningMethod.LORA, torch.bfloat16), (TuningMethod.FULL, torch.float32)]
)
def test_two_devices_learn_as_one(tmp_path, rows, method, dtype, second):  # noqa: F811
    spec = spec_for(rows, method=method, epochs=2, batch_size=8, rate=2e-3 if method is TuningMethod.LORA else 2e-4)
    spec = replace(spec, device="cuda:0", lora_rank=16, packing=True)
    found = []
    for more in ((), (second,)):
        model, *copies = (load_model(MINI, device=device, dtype=dtype) for device in ("cuda:0", *more))
        hooks = Recorder()
        Trainer(model, replace(spec, more_devices=more), rows, None, hooks, tmp_path / str(len(more)), replicas=copies).run()
        found.append(hooks)
    one, two = found
    assert len(two.steps) == len(one.steps) >= 10
    assert [s.loss for s in two.steps] == pytest.approx([s.loss for s in one.steps], rel=0.03, abs=0.01)
    assert [s.grad_norm for s in two.steps[:3]] == pytest.approx([s.grad_norm for s in one.steps[:3]], rel=0.05)
    assert two.epochs[-1].train_loss < two.base[0].loss
