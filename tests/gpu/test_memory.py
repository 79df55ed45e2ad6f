"""The memory that a run is forecast to take on a GPU beside what its tensors took there, and the device's own word on its memory."""

import shutil
from dataclasses import replace

import pytest
import torch

from benchmarks.gpu_rival import rows as log_normal_rows
from luthier.core.specs import LoraKind, TuningMethod
from luthier.models.facts import read_config, read_facts
from luthier.models.load import load_model
from luthier.training.card_memory import card_job, card_least, card_peak, card_room, longest_alone
from luthier.training.loop import Trainer
from luthier.training.plan import plan_run
from luthier.training.work import shape_of
from luthier.worker.machine import device_memory
from tests.support.metered import LLAMA
from tests.support.mini import MINI
from tests.support.trainable_model import Recorder, spec_for

SHARE, SLACK = 0.25, 1 << 25
"""How far the forecast may be from what was taken: a share of it, and the libraries' work space, which differs between cards."""
BATCH = 16


@pytest.fixture(scope="module")
def middle(tmp_path_factory):
    """A random Llama of 87 million parameters."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("model")
    sizes = {name: value for name, value in LLAMA.items() if name not in ("model_type", "architectures")}
    AutoModelForCausalLM.from_config(LlamaConfig(**sizes), dtype=torch.bfloat16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(MINI / name, folder / name)
    return folder


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (TuningMethod.LORA, {}),
        (TuningMethod.LORA, {"gradient_checkpointing": True}),
        (TuningMethod.LORA, {"lora_kind": LoraKind.DORA}),
        (TuningMethod.FULL, {}),
        (TuningMethod.FULL, {"precision": "mixed"}),
    ],
)
@pytest.mark.parametrize("size", ["mini", "middle"])
def test_the_forecast_is_what_tensors_took(tmp_path, middle, size, method, changes):
    folder = MINI if size == "mini" else middle
    facts = read_facts(folder)
    data = log_normal_rows(6 * BATCH, 4000, min(1000, facts.max_length))
    full = method is TuningMethod.FULL
    spec = replace(
        spec_for(data, method=method, epochs=1, batch_size=BATCH, rate=1e-4),
        device="cuda",
        lora_rank=0 if full else 16,
        packing=True,
        **{"precision": "float32" if full else "bfloat16", **changes},
    )
    shape = shape_of(read_config(folder), facts)
    job = card_job(spec, shape)
    plan = plan_run(spec, data, None, facts, shape, card_room(job, device_memory("cuda").total_bytes))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    model = load_model(folder, device="cuda", dtype=torch.float32 if full else torch.bfloat16)
    Trainer(model, spec, data, None, Recorder(), tmp_path).run()
    taken = torch.cuda.max_memory_allocated() - before
    forecast = card_peak(plan)
    print(f"{size} {method.value} {changes}: forecast {forecast / 1e9:.3f} GB, taken {taken / 1e9:.3f} GB, {forecast / taken:.3f}")
    assert forecast == pytest.approx(taken, abs=SHARE * taken + SLACK)
    assert card_least(job, longest_alone(spec, shape, data), several=True) <= forecast


def test_the_device_says_what_is_free_and_what_this_process_holds():
    torch.cuda.empty_cache()
    before = device_memory("cuda")
    taken = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
    after = device_memory("cuda")
    assert after.held_bytes - before.held_bytes >= taken.nbytes
    assert before.free_bytes - after.free_bytes == pytest.approx(taken.nbytes, rel=0.5)
    assert after.available_bytes == pytest.approx(before.available_bytes, rel=0.05)
    assert after.free_bytes + after.held_bytes <= after.total_bytes
