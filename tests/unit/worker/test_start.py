"""What a job asked for meets the base that it trains: layers by name."""

from dataclasses import replace

import pytest

from luthier.core.errors import JobFailure
from luthier.core.jobs import ModelKind, ModelRecord
from luthier.core.settings import Settings
from luthier.core.specs import Decision, Hyperparameters, TrainingSpec, options_from
from luthier.models.adapter_form import AdapterForm
from luthier.worker import start as module
from luthier.worker.start import decide, start_of
from tests.support.mini import load_mini, save_adapter
from tests.support.tiny_models import build

MINI = ModelRecord(
    name="luthier-mini", kind=ModelKind.BASE, base="luthier-mini", path="builtin:luthier-mini", created_at=1, owned_by="luthier"
)


def _decide(record: ModelRecord = MINI, **asked: object) -> tuple[TrainingSpec, tuple[Decision, ...]]:
    settings, options = Settings(device="cpu"), options_from(asked)
    start = start_of(settings, record, None, options)
    length = Decision(name="max_length", value=64, reason="As asked.")
    fingerprints = ("d", None)
    return decide(
        settings,
        start,
        Hyperparameters(),
        options,
        base="luthier-mini",
        seed=1,
        num_examples=20,
        fingerprints=fingerprints,
        max_length=length,
    )


def test_attention_becomes_the_names_that_the_base_has():
    spec, decisions = _decide(targets="attention")
    assert spec.targets == ("k_proj", "o_proj", "q_proj", "v_proj")
    assert next(d.value for d in decisions if d.name == "targets") == "k_proj, o_proj, q_proj, v_proj"
    assert _decide()[0].targets == _decide(targets="all-linear")[0].targets == ()


def test_a_layer_that_the_base_lacks_fails_the_job_and_names_those_it_has():
    with pytest.raises(JobFailure, match=r"no layer named 'c_attn'.*down_proj, gate_proj") as caught:
        _decide(targets=["q_proj", "c_attn"])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "luthier.targets")


@pytest.mark.parametrize(("form", "kind"), [({}, "lora"), ({"rslora": True}, "rslora"), ({"dora": True}, "dora")])
def test_a_tuned_model_whose_tuning_goes_on_keeps_its_kind_whatever_is_asked(tmp_path, form, kind):
    folder = tmp_path / "adapter"
    model = load_mini()
    model.add_adapter("a", rank=2, alpha=3.0, seed=1, form=AdapterForm(**form))
    save_adapter(model, "a", folder)
    parent = replace(MINI, name="ft:luthier-mini:x", kind=ModelKind.ADAPTER, path=str(folder))
    for asked in ("lora", "rslora", "dora"):
        settings, options = Settings(device="cpu"), options_from({"adapter": asked})
        spec, decisions = decide(
            settings,
            start_of(settings, MINI, parent, options),
            Hyperparameters(),
            options,
            base="luthier-mini",
            seed=1,
            num_examples=20,
            fingerprints=("d", None),
            max_length=Decision(name="max_length", value=64, reason="As asked."),
        )
        assert (spec.lora_kind.value, spec.lora_rank, spec.lora_alpha) == (kind, 2, 3.0)
        assert any("cannot change" in d.reason for d in decisions) == (asked != kind)


def test_packing_needs_a_base_whose_path_reads_rows_end_to_end(tmp_path):
    assert _decide(packing="on")[0].packing
    spec, decisions = _decide()
    assert not spec.packing
    assert next(d.value for d in decisions if d.name == "packing") == "off"
    folder = build("gpt2", tmp_path / "gpt2")
    record = replace(MINI, name="gpt2", base="gpt2", path=str(folder))
    assert not _decide(record)[0].packing
    with pytest.raises(JobFailure, match="gpt2 reads rows side by side") as caught:
        _decide(record, packing="on")
    assert (caught.value.code, caught.value.param) == ("invalid_value", "luthier.packing")


def test_a_base_in_4_bits_needs_its_library(monkeypatch):
    monkeypatch.setattr(module, "is_installed", lambda: True)
    spec, decisions = _decide(quantization="nf4")
    assert spec.quantization == "nf4"
    assert "losses of the run are those over this base" in next(d.reason for d in decisions if d.name == "quantization").lower()
    assert "quantization" not in {d.name for d in _decide()[1]}
    with pytest.raises(JobFailure, match="its weights cannot learn") as refused:
        _decide(quantization="nf4", adapter="full")
    assert (refused.value.code, refused.value.param) == ("invalid_parameter_combination", "luthier.quantization")
    monkeypatch.setattr(module, "is_installed", lambda: False)
    with pytest.raises(JobFailure, match=r"pip install 'luthier\[qlora\]'") as caught:
        _decide(quantization="nf4")
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "luthier.quantization")
