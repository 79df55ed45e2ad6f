"""The loop on a CPU: it learns, a resumed run is the undisturbed one, and nothing foreign is resumed or overwritten."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pretraining import export, train
from pretraining.errors import PretrainingError
from pretraining.network import FusedLoss, Network, Shape, chunk_gradient
from pretraining.optimizers import orthogonal
from pretraining.record import read_record
from pretraining.train import Training, arithmetic_for, changed_recipe, rate_share
from tests.unit.pretraining.conftest import RECIPE

CPU = torch.device("cpu")
TRUE_SHAPES = {
    "cpu": {"hidden_size": 256, "num_hidden_layers": 8, "num_attention_heads": 4, "intermediate_size": 704},
    "gpu": {"hidden_size": 384, "num_hidden_layers": 4, "num_attention_heads": 6, "intermediate_size": 768},
}


def _training(work: Path, **changes: Any) -> Training:
    return Training(work, {**RECIPE, **changes}, CPU, compile_network=False)


def _stop_at(training: Training, step: int) -> None:
    inner = training._train_step

    def stepping() -> torch.Tensor:
        training.stopping = training.step + 1 >= step
        return inner()

    training._train_step = stepping  # type: ignore[method-assign]


def test_it_learns_and_logs_every_held_out_part(packed: Path) -> None:
    training = _training(packed)
    training.run()
    lines = [json.loads(line) for line in (packed / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] - 0.3
    assert set(lines[-1]["held_out"]) == {"text_en", "text_fr", "pairs", "tasks"}
    assert training.step == training.num_steps


def test_a_finished_run_leaves_a_record_and_an_unfinished_one_none(packed: Path) -> None:
    first = _training(packed)
    _stop_at(first, 4)
    first.run()
    with pytest.raises(PretrainingError, match=r"run\.json is missing: run python -m pretraining\.train to its end first"):
        read_record(packed / "run.json")
    second = _training(packed)
    second.run()
    record = read_record(packed / "run.json")
    assert (record["device"], record["recipe"], record["steps"]) == ("cpu", second.recipe, second.num_steps)
    assert record["tokens"] == second.num_steps * RECIPE["batch_tokens"]
    assert set(record["tokens_of_part"]) == {"text_en", "text_fr", "pairs_all", "pairs_canonical", "pairs_short", "tasks"}
    assert record["held_out"][-1] == {"tokens": record["tokens"], **second.held_out()}


def test_a_resumed_run_ends_with_the_same_bits(packed: Path) -> None:
    whole = _training(packed)
    whole.run()
    (packed / "state" / "state.pt").unlink()
    first = _training(packed)
    _stop_at(first, 9)
    first.run()
    assert first.step == 9
    second = _training(packed)
    second.run()
    assert second.step == whole.num_steps
    for (name, a), (_, b) in zip(whole.network.named_parameters(), second.network.named_parameters(), strict=True):
        assert torch.equal(a, b), name


def test_a_resume_with_another_configuration_is_refused_and_touches_nothing(packed: Path) -> None:
    first = _training(packed)
    _stop_at(first, 3)
    first.run()
    before = (packed / "state" / "state.pt").read_bytes()
    with pytest.raises(PretrainingError, match=r"another configuration \(recipe.learning_rate: 0.01 there, 0.5 here\)"):
        _training(packed, learning_rate=0.5).run()
    assert (packed / "state" / "state.pt").read_bytes() == before


def test_a_tokenizer_that_does_not_fit_and_a_short_file_are_refused(packed: Path) -> None:
    phase = packed / "packed" / "second.bin"
    content = phase.read_bytes()
    phase.write_bytes(content[:-2])
    with pytest.raises(PretrainingError, match="is cut short or changed"):
        _training(packed)
    phase.write_bytes(content)
    with (packed / "tokenizer.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(PretrainingError, match="is not the one that"):
        _training(packed)


def test_only_the_recipes_own_numbers_can_be_changed(corpus_folder: Path) -> None:
    changed = changed_recipe("cpu", ["learning_rate=0.5", "shape.hidden_size=64", "optimizer=adamw"])
    assert (changed["learning_rate"], changed["shape"]["hidden_size"], changed["optimizer"]) == (0.5, 64, "adamw")
    with pytest.raises(PretrainingError, match="has no 'learning_rat'"):
        changed_recipe("cpu", ["learning_rat=1"])
    with pytest.raises(PretrainingError, match="no recipe 'tpu'"):
        changed_recipe("tpu", [])


def test_the_rate_warms_up_stays_and_falls_to_the_end() -> None:
    shares = [rate_share(step, 100, RECIPE) for step in range(100)]
    assert shares[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert shares[64] == 1.0
    assert shares[66] < 1.0
    assert 0 < shares[-1] < 0.05


def test_the_fused_loss_is_the_plain_one_with_its_gradients() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(40, 16, requires_grad=True)
    weight = torch.randn(60, 16, requires_grad=True)
    targets = torch.randint(0, 60, (40,))
    counted = (torch.rand(40) > 0.3).float()
    plain = (torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="none") * counted).sum() / counted.sum()
    wanted = torch.autograd.grad(plain, (hidden, weight))
    fused = FusedLoss.apply(hidden, weight, targets, counted, lambda *a: tuple(x.float() for x in chunk_gradient(*a)))
    got = torch.autograd.grad(fused, (hidden, weight))  # type: ignore[arg-type]
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)  # type: ignore[arg-type]
    for a, b in zip(wanted, got, strict=True):
        assert torch.allclose(a, b, atol=2e-3)


def test_a_row_reads_as_if_it_stood_alone() -> None:
    network = Network(Shape(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24), seed=0)
    row = torch.tensor([[7, 8, 9]])
    alone = network(row)
    behind_another = network(torch.tensor([[4, 5, 0, 7, 8, 9]]))[:, 3:]
    assert torch.allclose(alone.float(), behind_another.float(), atol=0.05)


def test_orthogonal_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 16, 48), (3, 48, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape).to(torch.bfloat16)).float())
        assert values.min() > 0.5
        assert values.max() < 1.35


def test_an_exported_folder_is_what_transformers_reads(packed: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    training = _training(packed)
    with pytest.raises(PretrainingError, match=r"run python -m pretraining\.train first"):
        export.export(packed, tmp_path / "out")
    training.run()
    export.export(packed, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.tensor([[40, 41, 42, 43, 44]])
    ours = torch.nn.functional.linear(training.network(ids).float(), training.network.embedding)
    assert torch.allclose(model(ids).logits, ours, atol=0.15)
    text = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert text == "<|user|>Hi<|end|>"
    with pytest.raises(PretrainingError, match="is there already; nothing was overwritten"):
        export.export(packed, tmp_path / "out")


def test_an_unfinished_run_and_another_tokenizer_are_not_exported(packed: Path, tmp_path: Path) -> None:
    training = _training(packed)
    _stop_at(training, 2)
    training.run()
    with pytest.raises(PretrainingError, match="stands at step 2 of"):
        export.export(packed, tmp_path / "out")
    _training(packed).run()
    with (packed / "tokenizer.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    with pytest.raises(PretrainingError, match="does not fit the weights"):
        export.export(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cpu", "gpu"])
@pytest.mark.parametrize("arithmetic", ["bfloat16", "float32"])
def test_the_shipped_recipes_run_on_a_cpu(name: str, arithmetic: str, packed: Path) -> None:
    recipe = json.loads((Path(train.__file__).parent / "data" / f"recipe_{name}.json").read_text(encoding="utf-8"))
    assert (recipe["arithmetic"], recipe["shape"]) == ("auto", TRUE_SHAPES[name])
    training = _training(packed, **{**recipe, "shape": RECIPE["shape"], "batch_tokens": 128, "arithmetic": arithmetic})
    training.run()
    assert training.network(torch.tensor([[5, 6]])).dtype is getattr(torch, arithmetic)
    assert training.held_out()["pairs"] < 5.9


def test_arithmetic_is_chosen_by_the_hardware_unless_it_is_named() -> None:
    assert arithmetic_for("auto", CPU) in ("bfloat16", "float32")
    assert arithmetic_for("auto", torch.device("cuda")) == "bfloat16"
    assert arithmetic_for("float32", torch.device("cuda")) == "float32"
    with pytest.raises(PretrainingError, match="can be auto, bfloat16 or float32"):
        arithmetic_for("float16", CPU)
