"""Unsloth's side of the GPU benchmark, as far as it goes without a card: its batches, the shared loop, limits, what is said without it."""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_gpu_training, gpu_unsloth
from benchmarks.gpu_rival import BATCH, padded, rival_steps, rows, step_batches, summed_loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench_gpu_training.build("smoke", tmp_path_factory.mktemp("bench") / "smoke", "cpu")


@pytest.fixture
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).train()


def test_rows_end_to_end_are_the_rows_of_the_padded_batch() -> None:
    data = rows(4, 1000, 60)
    joined, side_by_side = gpu_unsloth.end_to_end(data, [2, 0, 3], "cpu"), padded(data, [2, 0, 3], "cpu")
    real = side_by_side["attention_mask"].bool()
    for name in ("input_ids", "labels"):
        assert torch.equal(joined[name][0], side_by_side[name][real])
        assert joined[name].dtype == torch.int64
    assert joined["packed_seq_lengths"].tolist() == real.sum(dim=1).tolist()
    assert joined["position_ids"][0].tolist() == [p for length in joined["packed_seq_lengths"].tolist() for p in range(length)]


def test_loss_of_a_step_is_the_same_by_any_micro_batch(model: Any) -> None:
    data = rows(6, 1000, 60)
    batch = list(range(6))
    whole = summed_loss(model, data, batch, "cpu", micro=6)
    assert summed_loss(model, data, batch, "cpu", micro=2) == pytest.approx(whole, rel=2e-3)
    assert whole == pytest.approx(np.log(1024), rel=0.05)


def test_the_loop_trains_each_row_once_and_reports_every_step(model: Any) -> None:
    data = rows(6 * BATCH, 1000, 40)
    figures = rival_steps(model, data, "cpu", micro=BATCH, like_lengths=True)
    assert figures["tokens_per_second"] > 0
    assert len(figures["losses"]) == 4
    for like_lengths in (True, False):
        batches = step_batches(data, like_lengths=like_lengths)
        assert [len(batch) for batch in batches] == [BATCH] * 6
        assert sorted(index for batch in batches for index in batch) == list(range(6 * BATCH))


def test_warm_up_leaves_the_weights_and_no_gradients(model: Any) -> None:
    data = rows(2 * BATCH, 1000, 40)
    before = [p.detach().clone() for p in model.parameters()]
    assert gpu_unsloth.warm_up(model, data, "cpu", micro=8, like_lengths=True, inputs=padded) > 0
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))


def test_micro_batches_are_halved_until_they_fit() -> None:
    asked: list[int] = []

    def run(micro: int) -> dict[str, Any]:
        asked.append(micro)
        if micro > 4:
            raise torch.OutOfMemoryError
        return {"tokens_per_second": 1}

    assert gpu_unsloth.fitting(run, 16, lambda: None) == {"micro_batch": 4, "tokens_per_second": 1}
    assert asked == [16, 8, 4]
    assert gpu_unsloth.fitting(lambda _: run(16), 2, lambda: None) == {"out_of_memory": True}


def test_without_unsloth_or_a_card_the_results_say_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_unsloth.importlib.util, "find_spec", lambda _: None)
    assert gpu_unsloth.side(folder, 2, "cuda", 1.0) == {"unsloth": {"skipped": "not installed"}}
    monkeypatch.setattr(gpu_unsloth.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    assert gpu_unsloth.side(folder, 2, "cpu", 1.0) == {"unsloth": {"skipped": "needs CUDA"}}


@pytest.mark.parametrize(("sleeps", "limit", "reason"), [(60, 3.0, "stopped after 3 s"), (0, 30.0, "exit status 0")])
def test_what_was_measured_before_the_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sleeps: int, limit: float, reason: str
) -> None:
    program = tmp_path / "python"
    done = json.dumps({"padded": {"tokens_per_second": 7}})
    program.write_text(
        f"#!{sys.executable}\nimport sys, time, pathlib\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--out') + 1]).write_text({done!r})\ntime.sleep({sleeps})\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(gpu_unsloth.importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setattr(gpu_unsloth.sys, "executable", str(program))
    found = gpu_unsloth.side(tmp_path, 2, "cuda", limit)
    assert found.pop("unsloth padded") == {"tokens_per_second": 7}
    assert set(found) == {f"unsloth {name}" for name in gpu_unsloth.SETTINGS if name != "padded"}
    assert all(figures == {"skipped": reason} for figures in found.values())


def test_ratios_name_only_rivals_that_ran() -> None:
    found: dict[str, dict[str, Any]] = {
        "ours": {"tokens_per_second": 300, "losses": [12.0, 11.9]},
        "unsloth padded": {"tokens_per_second": 100, "losses": [12.1, 12.0]},
        "unsloth like lengths": {"tokens_per_second": 200, "losses": [12.0, 11.9]},
        "unsloth checkpointing": {"out_of_memory": True},
    }
    bench_gpu_training.ratios(found)
    ratios = {name: value for name, value in found["ours"].items() if name.startswith("ratio")}
    assert ratios == {"ratio_to_best": None, "ratio_to_padded": None, "ratio_to_unsloth": 1.5}


def test_what_computed_something_else_does_not_count() -> None:
    found: dict[str, dict[str, Any]] = {
        "ours": {"tokens_per_second": 300, "losses": [12.0, 11.9]},
        "unsloth padded": {"tokens_per_second": 900, "losses": [float("nan"), 11.9]},
        "unsloth like lengths": {"tokens_per_second": 800, "losses": [12.0, 9.0]},
        "unsloth checkpointing": {"tokens_per_second": 150, "losses": [12.0, 11.95]},
    }
    bench_gpu_training.ratios(found)
    assert found["ours"]["ratio_to_unsloth"] == 2.0
    assert [figures["same_losses"] for figures in found.values()] == [True, False, False, True]


def test_command_line() -> None:
    arguments = gpu_unsloth.parse(["somewhere", "--out", "found.json", "--settings", "padded"])
    assert (arguments.folder, arguments.steps, arguments.settings) == (Path("somewhere"), 24, ["padded"])
    assert gpu_unsloth.parse(["somewhere", "--out", "found.json"]).settings == list(gpu_unsloth.SETTINGS)
