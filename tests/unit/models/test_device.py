"""Where models compute: what the settings mean, and the sentences for what is not there."""

from dataclasses import replace

import pytest
import torch

from luthier.core.errors import InvalidRequest
from luthier.core.settings import from_environment
from luthier.core.specs import TuningMethod
from luthier.models import device
from tests.support.tiny_models import mini_folder
from tests.support.trainable_model import prepared, spec_for


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def plain_cpu(monkeypatch):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: False)


@pytest.fixture
def quick_cpu(monkeypatch):
    monkeypatch.setattr(device, "multiplies_bfloat16", lambda: True)


@pytest.mark.usefixtures("no_gpu", "plain_cpu")
def test_without_a_gpu_everything_is_float32_on_a_plain_cpu():
    for method in TuningMethod:
        placed = device.training_placement("auto", "auto", method)
        assert (placed.device, placed.dtype) == ("cpu", torch.float32)
    assert device.serving_placement("auto", "auto", mini_folder()).dtype is torch.float32
    with pytest.raises(InvalidRequest, match=r"sees 0 GPUs here\. Set it to auto or cpu"):
        device.training_placement("cuda", "auto", TuningMethod.LORA)


@pytest.mark.usefixtures("no_gpu", "quick_cpu")
def test_a_cpu_that_multiplies_bfloat16_trains_in_it_and_answers_in_float32():
    lora = device.training_placement("auto", "auto", TuningMethod.LORA)
    full = device.training_placement("auto", "auto", TuningMethod.FULL)
    assert (lora.precision, lora.dtype) == ("bfloat16", torch.bfloat16)
    assert (full.precision, full.dtype) == ("mixed", torch.float32)
    assert device.training_placement("auto", "auto", TuningMethod.LORA, pairs=True).precision == "float32"
    assert device.training_placement("cpu", "float32", TuningMethod.LORA).precision == "float32"
    assert device.training_placement("cpu", "mixed", TuningMethod.LORA).precision == "mixed"
    for setting in ("auto", "mixed"):
        assert device.serving_placement("auto", setting, mini_folder()).dtype is torch.float32


@pytest.mark.usefixtures("gpu")
def test_mixed_is_for_full_tuning_on_a_gpu():
    assert device.training_placement("auto", "mixed", TuningMethod.FULL).precision == "mixed"
    with pytest.raises(InvalidRequest, match="which on a GPU is for full tuning"):
        device.training_placement("auto", "mixed", TuningMethod.LORA)


@pytest.mark.usefixtures("gpu")
def test_all_weights_learn_in_mixed_precision_where_the_gpu_has_bfloat16(monkeypatch):
    full = device.training_placement("auto", "auto", TuningMethod.FULL)
    assert (full.precision, full.dtype) == ("mixed", torch.float32)
    assert device.training_placement("auto", "float32", TuningMethod.FULL).precision == "float32"
    pairs = device.training_placement("auto", "auto", TuningMethod.FULL, pairs=True)
    assert (pairs.precision, "blur" in pairs.precision_reason) == ("float32", True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    for method in TuningMethod:
        assert device.training_placement("auto", "auto", method).precision == "float32"


def test_products_are_exact_again_after_a_mixed_run():
    x, w = torch.rand(64, 512), torch.rand(512, 512)
    try:
        device.prepare_device("cpu", "mixed")
        mixed = x @ w
    finally:
        device.prepare_device("cpu")
    exact = (x.double() @ w.double()).float()
    assert torch.allclose(x @ w, exact, rtol=1e-5)
    assert torch.allclose(mixed, exact, rtol=2e-2)
    assert torch.equal(mixed, x @ w) != device.multiplies_bfloat16()


@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_only_a_frozen_base_is_bfloat16():
    lora = device.training_placement("auto", "auto", TuningMethod.LORA)
    full = device.training_placement("cuda:1", "auto", TuningMethod.FULL)
    assert (lora.device, lora.dtype, lora.device_reason) == ("cuda", torch.bfloat16, "The machine has a GPU (Some GPU).")
    assert (full.device, full.dtype) == ("cuda:1", torch.float32)
    assert device.training_placement("cpu", "auto", TuningMethod.LORA).device == "cpu"
    assert device.training_placement("auto", "float32", TuningMethod.LORA).dtype is torch.float32
    with pytest.raises(InvalidRequest, match="loses small updates"):
        device.training_placement("auto", "bfloat16", TuningMethod.FULL)
    with pytest.raises(InvalidRequest, match=r"cuda:2, but torch .* sees 2 GPUs"):
        device.training_placement("cuda:2", "auto", TuningMethod.LORA)


@pytest.mark.usefixtures("gpu")
def test_several_devices_are_the_first_and_more_for_training_and_the_first_for_answers():
    placed = device.training_placement("cuda:1,cuda:0", "auto", TuningMethod.LORA)
    assert (placed.device, placed.more_devices, placed.precision) == ("cuda:1", ("cuda:0",), "bfloat16")
    assert device.serving_placement("cuda:1,cuda:0", "auto", mini_folder()).device == "cuda:1"
    assert device.training_placement("auto", "auto", TuningMethod.LORA).more_devices == (), "two GPUs are not taken unasked"
    with pytest.raises(InvalidRequest, match=r"LUTHIER_DEVICE is cuda:2, but torch .* sees 2 GPUs"):
        device.training_placement("cuda:0,cuda:2", "auto", TuningMethod.LORA)


@pytest.mark.usefixtures("gpu")
def test_a_run_goes_on_only_where_all_of_its_devices_are(monkeypatch):
    spec = replace(spec_for(prepared()), device="cuda:0", more_devices=("cuda:1",))
    assert device.placement_of(spec).more_devices == ("cuda:1",)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InvalidRequest, match=r"cuda:1, but torch .* sees 1 GPUs"):
        device.placement_of(spec)


def test_a_list_of_devices_names_different_gpus():
    assert from_environment({"LUTHIER_DEVICE": "cuda:0,cuda:3"}).devices == ("cuda:0", "cuda:3")
    assert from_environment({}).devices == ("auto",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda:x"),
        ("DEVICE", "cuda:0,cuda:0"),
        ("DEVICE", "cpu,cpu"),
        ("DEVICE", "cuda,cuda:1"),
        ("DEVICE", "cuda:0, cuda:1"),
        ("DEVICE", "cuda:0,"),
        ("PRECISION", "fp16"),
    ],
)
def test_unknown_words_are_refused(name, value):
    with pytest.raises(InvalidRequest, match=f"LUTHIER_{name} has the value '{value}', but must be"):
        from_environment({f"LUTHIER_{name}": value})


def test_short_runs_and_cpus_are_not_compiled():
    assert not device.compiling_pays("cpu", 10**6)
    assert not device.compiling_pays("cuda", 100)


def test_nothing_is_compiled_on_several_devices(monkeypatch):
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda _: object())
    assert device.compiling_pays("cuda", 10_000)
    assert not device.compiling_pays("cuda", 10_000, num_devices=2)
