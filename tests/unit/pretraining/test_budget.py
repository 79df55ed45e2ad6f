"""Runs of a given length: more than one pass, a time budget, dropout, weights that are kept; packing in shards."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pretraining import export, pack
from pretraining.errors import PretrainingError
from pretraining.plan import Clock, shared_steps
from pretraining.record import read_record
from pretraining.train import Training
from tests.unit.pretraining.conftest import RECIPE

CPU = torch.device("cpu")


def _training(work: Path, changes: dict[str, Any] | None = None, **length: Any) -> Training:
    return Training(work, {**RECIPE, **(changes or {})}, CPU, compile_network=False, **length)


def test_a_plan_goes_through_its_phases_and_is_stretched_in_proportion() -> None:
    plan = shared_steps(10, [0.5, 0.3, 0.2])
    assert plan.left == [5, 3, 2]
    for _ in range(6):
        plan.advance()
    assert (plan.phase, plan.done, plan.left, plan.step, plan.total) == (1, [5, 1, 0], [0, 2, 2], 6, 10)
    plan.fit(60.0, [1.0, 10.0, 5.0])
    assert plan.left == [0, 4, 4]
    plan.fit(-1.0, [1.0, 10.0, 5.0])
    assert plan.total == plan.step == 6
    plan.fit(5.0, [1.0, 1.0, 1.0])
    assert plan.total == 6


def test_a_clock_without_a_budget_goes_by_steps_and_with_one_by_time() -> None:
    plain = Clock(0, 0.0, None, 300)
    assert [step for step in range(1, 700) if plain.measures(step, 1.0)] == [300, 600]
    assert not any(plain.fits(step, 100.0) for step in range(1, 200))
    timed = Clock(0, 0.0, 160.0, 300)
    seen = [(step, timed.fits(step, step / 10), timed.measures(step, step / 10)) for step in range(1, 331)]
    assert [step for step, fits, _ in seen if fits] == [100, 200, 300]
    assert [step for step, _, measures in seen if measures] == [100, 200, 300]


def test_the_pace_of_all_phases_follows_the_steps_of_one_phase_and_no_mixture_of_two() -> None:
    clock = Clock(0, 0.0, 160.0, 300)
    assert clock.pace([1.0, 3.0], 0, 100, 50.0) == [0.5, 1.5]
    assert clock.pace([0.5, 1.5], 1, 200, 500.0) == [0.5, 1.5]
    assert clock.pace([0.5, 1.5], 1, 300, 800.0) == [1.0, 3.0]


def test_more_steps_than_were_packed_draw_every_block_again_in_another_order(packed: Path) -> None:
    blocks = _training(packed).blocks
    number = blocks.batches(0, 128)
    first = torch.cat([blocks.batch(0, i, 128) for i in range(number)])
    second = torch.cat([blocks.batch(0, number + i, 128) for i in range(number)])
    assert not torch.equal(first, second)
    left_over = len(np.fromfile(packed / "packed" / "first.bin", dtype=np.uint16)) // 33 - len(first)
    assert len({tuple(row.tolist()) for row in first} - {tuple(row.tolist()) for row in second}) <= left_over
    again = _training(packed).blocks
    assert torch.equal(again.batch(0, number + 1, 128), blocks.batch(0, number + 1, 128))


def test_a_run_of_given_steps_with_dropout_resumes_to_the_same_bits_and_keeps_its_best(packed: Path, tmp_path: Path) -> None:
    changes = {"dropout": 0.2, "keep_best": True}
    whole = _training(packed, changes, steps=90)
    whole.run()
    record = read_record(packed / "run.json")
    assert (record["steps"], record["steps_of_phase"]) == (90, {"first": 54, "second": 36})
    assert sum(record["tokens_of_part"].values()) == pytest.approx(90 * 128, rel=0.05)
    (packed / "state" / "state.pt").unlink()
    first = _training(packed, changes, steps=90)
    inner = first._train_step

    def stepping() -> torch.Tensor:
        first.stopping = first.step + 1 >= 60
        return inner()

    first._train_step = stepping  # type: ignore[method-assign]
    first.run()
    second = _training(packed, changes, steps=90)
    second.run()
    for (name, a), (_, b) in zip(whole.network.named_parameters(), second.network.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    with safe_open(packed / "kept" / "weights.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        assert torch.equal(file.get_tensor("norm"), second.network.norm.bfloat16())
    last = {name: loss for name, loss in read_record(packed / "run.json")["held_out"][-1].items() if name != "tokens"}
    assert (facts["step"], facts["held_out"]) == (90, last)
    (packed / "state" / "state.pt").unlink()
    export.export(packed, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["hidden_size"] == 32


def test_held_out_loss_is_measured_without_dropout(packed: Path) -> None:
    assert _training(packed, {"dropout": 0.5}).held_out() == _training(packed).held_out()


def test_a_time_budget_decides_how_many_steps_there_are(packed: Path) -> None:
    training = _training(packed, {"keep_best": True}, seconds=2.0)
    training.run()
    record = read_record(packed / "run.json")
    assert record["steps"] == training.step == sum(record["steps_of_phase"].values())
    assert len(record["held_out"]) > 1
    assert (packed / "kept" / "weights.safetensors").is_file()


def test_a_phase_of_less_than_a_batch_is_refused(packed: Path) -> None:
    with pytest.raises(PretrainingError, match="Phase first has fewer tokens than one batch: pack more --tokens"):
        _training(packed, {"batch_tokens": 1 << 20})


def test_shards_draw_each_their_own_and_do_not_depend_on_processes(
    corpus_folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = pack.pack(corpus_folder, work, tokens=6000, seed=3, recipe="gpu", shards=3)
    assert manifest["phases"][0]["blocks_of_part"] == {"text_en": 22, "text_fr": 22, "pairs_all": 45, "tasks": 22}
    pack.check(corpus_folder, work)
    before = (work / "packed" / "first.bin").read_bytes()
    (work / "packed" / "manifest.json").unlink()
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    pack.pack(corpus_folder, work, tokens=6000, seed=3, recipe="gpu", shards=3)
    assert (work / "packed" / "first.bin").read_bytes() == before
    (work / "packed" / "manifest.json").unlink()
    pack.pack(corpus_folder, work, tokens=6000, seed=3)
    assert (work / "packed" / "first.bin").read_bytes() != before


def test_the_whole_packing_is_read_back_whatever_the_size_of_its_pieces(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = list(pack.packed_rows(packed))
    monkeypatch.setattr(pack, "_CHECKED_AT_ONCE", 7)
    assert list(pack.packed_rows(packed)) == at_once
