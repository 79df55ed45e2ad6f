"""The GPU benchmarks' own code on a CPU, on tiny shapes: every side trains, and the losses of the sides that do the same are the same."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench_gpu_full, bench_gpu_group, bench_gpu_preference, bench_gpu_training
from luthier.models.device import prepare_device


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    yield
    prepare_device("cpu")


def near(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found["losses"] == pytest.approx(wanted["losses"], rel=2e-3)


def test_lora_beside_peft() -> None:
    found = bench_gpu_training.measure("smoke", 5, "cpu", ["peft"], 1.0)
    assert set(found) == {*bench_gpu_training.OURS, *(name for name, _, _ in bench_gpu_training.RIVALS)}
    assert all(figures["tokens_per_second"] > 0 and figures["same_losses"] for figures in found.values())
    assert near(found["peft like lengths"], found["ours"]), "the same batches by the same rates"


def test_all_weights_beside_transformers() -> None:
    found = bench_gpu_full.measure("smoke", 5, "cpu")
    assert set(found) == {*bench_gpu_full.OURS, *bench_gpu_full.RIVALS}
    for name in ("ours float32", "autocast like lengths", "autocast checkpointing"):
        assert near(found[name], found["ours"])
        assert found[name]["ours_is_faster"] > 0


def test_pairs_beside_peft() -> None:
    found = bench_gpu_preference.measure("smoke", 2, "cpu")
    assert set(found) == {"ours", "peft"}
    assert found["ours"]["losses"][0] == pytest.approx(0.6931, abs=2e-3)
    assert near(found["peft"], found["ours"])


def test_a_group_in_three_arrangements(tmp_path: Path) -> None:
    found = bench_gpu_group.measure(bench_gpu_training.build("smoke", tmp_path / "model", "cpu"), 1000, bench_gpu_group.BATCH, "cpu", 1)
    assert set(found) == {"one after another", "in turns", "at once"}
    assert found["in turns"]["losses_apart"] == 0
    assert found["at once"]["losses_apart"] < 1e-3
