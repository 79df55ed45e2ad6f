"""Resume states on disk: the newest whole one of the same run, never a torn one."""

import shutil
import threading
from typing import Any

import pytest
import torch

from luthier.training import resume
from luthier.training.progress import Progress, progress_from_dict
from luthier.training.resume import ResumeState, ResumeStore


def _state(step: int) -> ResumeState:
    tensors = {"weight.0": torch.full((2, 3), float(step)), "random.cpu": torch.get_rng_state()}
    return ResumeState(Progress(step=step, epoch_loss_sum=0.1 + step / 3, metrics={"train_loss": 1 / 3}), tensors)


def _save(store: ResumeStore, *steps: int) -> None:
    for step in steps:
        store.save(_state(step))
    store.wait()


def test_a_state_comes_back_to_the_last_bit(tmp_path):
    _save(ResumeStore(tmp_path, "run"), 7)
    state = ResumeStore(tmp_path, "run").latest()
    assert state is not None
    assert state.progress == _state(7).progress
    assert torch.equal(state.tensors["weight.0"], torch.full((2, 3), 7.0))
    assert state.tensors["random.cpu"].dtype == torch.uint8


def test_the_newest_two_are_kept(tmp_path):
    _save(ResumeStore(tmp_path, "run"), 1, 2, 30, 4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["resume-000000004", "resume-000000030"]


def test_nothing_saved_is_nothing_found(tmp_path):
    assert ResumeStore(tmp_path / "absent", "run").latest() is None


def _tear(folder) -> None:
    path = folder / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def _flip(folder) -> None:
    path = folder / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        _tear,
        _flip,
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "progress.json").unlink(),
        lambda folder: (folder / "progress.json").write_text("{}"),
    ],
    ids=["torn", "bit flip", "no manifest", "torn manifest", "no progress", "other progress"],
)
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, damage):
    _save(ResumeStore(tmp_path, "run"), 1, 2)
    damage(tmp_path / "resume-000000002")
    store = ResumeStore(tmp_path, "run")
    state = store.latest()
    assert state is not None
    assert state.progress.step == 1
    _save(store, 2)
    again = ResumeStore(tmp_path, "run").latest()
    assert again is not None
    assert again.progress.step == 2


def test_a_state_of_another_run_is_not_taken(tmp_path):
    _save(ResumeStore(tmp_path, "run"), 3)
    assert ResumeStore(tmp_path, "other").latest() is None


def test_a_write_that_was_cut_short_is_invisible(tmp_path):
    _save(ResumeStore(tmp_path, "run"), 3)
    shutil.copytree(tmp_path / "resume-000000003", tmp_path / "resume-000000009.tmp-1")
    state = ResumeStore(tmp_path, "run").latest()
    assert state is not None
    assert state.progress.step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["resume-000000003"]


def test_reports_come_once_and_after_the_write(tmp_path):
    store = ResumeStore(tmp_path, "run")
    _save(store, 5)
    reports = store.finished()
    assert [r.step for r in reports] == [5]
    assert reports[0].bytes >= 24
    assert store.finished() == []


def test_a_state_is_told_while_the_next_one_is_written(tmp_path, monkeypatch):
    """Where a state follows every step, one is always under way."""
    store, go_on, real = ResumeStore(tmp_path, "run"), threading.Event(), resume.publish_folder
    _save(store, 5)

    def slowly(*arguments: Any) -> str:
        assert go_on.wait(60)
        return real(*arguments)

    monkeypatch.setattr(resume, "publish_folder", slowly)
    store.save(_state(6))
    assert [report.step for report in store.finished()] == [5]
    assert store.finished() == []
    go_on.set()
    store.wait()
    assert [report.step for report in store.finished()] == [6]


def test_a_failed_write_is_told_and_not_swallowed(tmp_path, monkeypatch):
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "publish_folder", full)
    store = ResumeStore(tmp_path, "run")
    _save(store, 5)
    with pytest.raises(OSError, match="No space"):
        store.finished()


def test_an_error_that_nobody_expected_is_told_too(tmp_path, monkeypatch):
    def broken(*_: object) -> str:
        raise MemoryError("no room for a copy")

    monkeypatch.setattr(resume, "publish_folder", broken)
    store = ResumeStore(tmp_path, "run")
    _save(store, 5)
    with pytest.raises(MemoryError):
        store.save(_state(6))
    monkeypatch.undo()
    _save(store, 7)
    assert [report.step for report in store.finished()] == [7]


def test_progress_survives_json():
    progress = _state(4).progress
    assert progress_from_dict(progress.to_dict()) == progress


def test_the_newest_step_is_that_of_the_newest_whole_state(tmp_path):
    assert resume.newest_step(tmp_path / "absent") == 0
    _save(ResumeStore(tmp_path, "run"), 5, 12)
    (tmp_path / "resume-000000099.tmp-torn").mkdir()
    assert resume.newest_step(tmp_path) == 12
    _flip(tmp_path / "resume-000000012")
    assert resume.newest_step(tmp_path) == 5
    (tmp_path / "resume-000000005" / "manifest.json").unlink()
    assert resume.newest_step(tmp_path) == 0
