"""The parts of the comparison with TRL that need no TRL: rows, our side, counts, matrix rates, medians, verdicts, the table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import bench_trl, trl_sides
from luthier.core.specs import TuningMethod


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trl_sides.build("tiny", tmp_path_factory.mktemp("bench") / "tiny")


def test_rows_are_the_same_at_every_call_and_of_the_size_that_is_told(folder: Path) -> None:
    one, two = trl_sides.talks(64, folder), trl_sides.talks(64, folder)
    assert all(np.array_equal(a.rendered.ids_T, b.rendered.ids_T) for a, b in zip(one.examples, two.examples, strict=True))
    assert 75 <= one.num_tokens / 64 <= 110
    assert 28 <= one.num_trained / 64 <= 45


def test_labels_of_the_other_side_are_what_we_train(folder: Path) -> None:
    data = trl_sides.talks(8, folder)
    columns = trl_sides._columns(data, range(8), all_tokens=False)
    assert sum(label != -100 for row in columns["labels"] for label in row) == data.num_trained
    assert all(label in (-100, token) for ids, row in zip(*columns.values(), strict=True) for token, label in zip(ids, row, strict=True))
    everything = trl_sides._columns(data, range(8), all_tokens=True)
    assert everything["labels"] == everything["input_ids"]


@pytest.mark.parametrize("method", list(TuningMethod))
def test_our_side_reports_its_steps_and_the_loss_that_transformers_gives(folder: Path, method: TuningMethod) -> None:
    from transformers import AutoModelForCausalLM

    report = trl_sides.ours(folder, method, steps=3, warm=1, threads=1, precision="float32")
    assert (report["steps"], report["rows"]) == (2, 16)
    assert 16 * 60 < report["tokens"] < 16 * 120
    assert report["seconds"] > 0
    assert report["processor_seconds"] > 0
    start = trl_sides._plain_loss(AutoModelForCausalLM.from_pretrained(folder), trl_sides.talks(64, folder, seed=trl_sides.SEED + 1))
    assert report["held_out_loss"] == pytest.approx(start, rel=0.05)
    assert report["held_out_loss"] != start


def test_operations_count_neither_padding_nor_logits_nobody_asks_for(folder: Path) -> None:
    data = trl_sides.talks(8, folder)
    full, lora = (trl_sides.operations_per_token(folder, method, data) for method in (TuningMethod.FULL, TuningMethod.LORA))
    blocks = 2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48)
    head = 8192 * 32 * data.num_trained / data.num_tokens
    assert full == pytest.approx(6 * (blocks + head), rel=0.1)
    assert lora == pytest.approx(full * 2 / 3)


def test_a_matrix_rate_is_measured(folder: Path) -> None:
    rate = trl_sides.matrix_rate(folder, TuningMethod.FULL, dtype=torch.float32, threads=1, seconds=0.0)
    assert rate["gflops"] > 0
    assert rate["gflops_per_processor"] > 0


def run_of(rows_per_second: float, *, memory: float = 1000.0, loss: float = 2.0) -> dict[str, Any]:
    return {
        "rows": 80,
        "tokens": 8000,
        "seconds": 80 / rows_per_second,
        "processor_seconds": 160 / rows_per_second,
        "peak_rss_mb": memory,
        "held_out_loss": loss,
    }


def test_medians_and_verdicts_follow_from_the_runs() -> None:
    rates = [{"gflops": 100.0, "gflops_per_processor": 50.0, "operations_per_token": 1e8}]
    ours = bench_trl.summary([run_of(4.0), run_of(5.0, memory=500.0), run_of(6.0, memory=400.0)], rates)
    assert (ours["examples_per_second"], ours["tokens_per_second"], ours["peak_rss_mb"]) == (5.0, 500.0, 500.0)
    assert ours["utilisation"] == pytest.approx(0.5)
    found = {
        "Luthier": ours,
        "TRL as shipped": bench_trl.summary([run_of(0.25)], rates),
        "TRL fp32": bench_trl.summary([run_of(2.0, loss=2.1)], rates),
        "TRL fp32, loss on all tokens": bench_trl.summary([run_of(50.0, loss=9.0)], rates),
        "TRL bf16 autocast, no recomputation": bench_trl.summary([{"failed": "not done after 5 s"}], rates),
    }
    names = [name for name, setting in trl_sides.SETTINGS.items() if not setting.all_tokens]
    said = bench_trl.verdicts("15m", "lora", found, names)
    assert (said["as shipped"], said["best"], said["TRL's best setting"], said["memory"]) == (20.0, 2.5, "TRL fp32", 0.5)
    assert said["best with the same held-out loss"] == 20.0
    assert said["holds"] == {"as shipped": True, "best": False, "memory": True, "same held-out loss": False}
    shown = bench_trl.table("15m, lora", found)
    assert "not done after 5 s" in shown
    assert "20.0" not in shown


def test_there_are_at_least_six_settings_and_the_first_changes_nothing() -> None:
    same = [s for s in trl_sides.SETTINGS.values() if not s.own_batches and not s.all_tokens]
    assert len(same) >= 6
    assert trl_sides.SETTINGS["TRL as shipped"].options == {}


def test_a_part_that_fails_is_told_with_its_last_line() -> None:
    found = bench_trl.run_apart(["--part", "float32", "--methods", "lora", "--folder", "/nowhere"], 1)
    assert found["failed"].startswith("ended with 1: ")
