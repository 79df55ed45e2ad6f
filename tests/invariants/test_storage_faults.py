"""A disk that fails or a process that dies costs steps at most: no torn state is taken, and the end is bit for bit the undisturbed one."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from luthier.core.errors import StorageFull
from luthier.core.specs import TuningMethod
from luthier.models.checkpoint import is_temporary, publish_folder, verify_folder
from luthier.training import resume
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer, TrainResult
from tests.support.preference_rows import pair_spec, pairs
from tests.support.trainable_model import Recorder, TrainableModel, prepared, spec_for

STEPS = 18


class Publishing(Recorder):
    """Hooks that publish the weights at each epoch's end, as a job does."""

    def __init__(self, model: TrainableModel, folder: Path) -> None:
        super().__init__()
        self.model, self.folder = model, folder

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        super().save_checkpoint(epoch, step, metrics)
        weights = {str(i): p.detach().clone() for i, p in enumerate(self.model.adapter_parameters(ADAPTER_NAME))}
        publish_folder(self.folder / f"step-{step}", lambda folder: save_file(weights, folder / "weights.safetensors"), {"step": step})


def run(place: Path, *, share: float = 0.0) -> tuple[TrainResult, Publishing]:
    """One attempt in ``place``, from its newest state."""
    model, train = TrainableModel(), prepared()
    hooks = Publishing(model, place / "models")
    result = Trainer(model, spec_for(train), train, prepared(12, seed=9), hooks, place / "resume", resume_share=share).run()
    return result, hooks


def weights_of(hooks: Publishing) -> list[torch.Tensor]:
    return [p.detach() for p in hooks.model.adapter_parameters(ADAPTER_NAME)]


def check_same_end(found: tuple[TrainResult, Publishing], reference: tuple[TrainResult, Publishing], place: Path) -> None:
    """Result, weights, reported steps and published folders are those of the run that nobody disturbed."""
    assert found[0] == reference[0]
    assert all(torch.equal(a, b) for a, b in zip(weights_of(found[1]), weights_of(reference[1]), strict=True))
    told = {step.step: step.loss for step in reference[1].steps}
    assert {step.step: step.loss for step in found[1].steps}.items() <= told.items()
    published = [path for path in (place / "models").iterdir() if not is_temporary(path)]
    assert sorted(int(path.name.removeprefix("step-")) for path in published) == [6, 12, 18]
    for path in published:
        assert verify_folder(path)["meta"]["step"] == int(path.name.removeprefix("step-"))
        mine, theirs = (load_file(folder / "weights.safetensors") for folder in (path, reference[1].folder / path.name))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.fixture
def reference(tmp_path: Path) -> tuple[TrainResult, Publishing]:
    return run(tmp_path / "undisturbed")


def _touches(event: str, arguments: tuple[Any, ...], place: str) -> bool:
    return event in {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"} and place in str(arguments[0])


def killed_run(place: Path, at: int, attempt: Callable[[Path], object] = run) -> bool:
    """An attempt in a process that kills itself at its nth touch of the disk; True when it came to its end before that."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
        return os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    left, lock = [at], threading.Lock()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if _touches(event, arguments, str(place)):
            with lock:
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        attempt(place)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has torch's threads")
@pytest.mark.parametrize("offset", [0, 2, 4, 6, 8])
def test_a_kill_at_any_touch_of_the_disk_changes_nothing(tmp_path: Path, reference: tuple[TrainResult, Publishing], offset: int) -> None:
    torch.set_num_threads(1)
    ended, at = False, 1 + offset
    while not ended:
        place = tmp_path / f"killed-{at}"
        ended = killed_run(place, at)
        # Killed once more at another place, then left alone.
        killed_run(place, 20 + 7 * offset)
        check_same_end(run(place), reference, place)
        at += 10
    assert at > 60, "too few moments were tried"


def run_pairs(place: Path) -> tuple[TrainResult, Recorder, list[torch.Tensor]]:
    """One attempt at all weights on pairs, whose reference is kept after every forward: what is learned must never become the reference."""
    model, train, hooks = TrainableModel(), pairs(40), Recorder()
    spec = pair_spec(train, method=TuningMethod.FULL, epochs=1)
    result = Trainer(model, spec, train, pairs(9, seed=5), hooks, place / "resume", resume_seconds=0.0, resume_share=0.0).run()
    return result, hooks, [p.detach() for p in model.all_parameters()]


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has torch's threads")
@pytest.mark.parametrize("offset", [0, 5])
def test_a_kill_at_any_touch_of_the_disk_leaves_the_reference_of_a_preference_run(tmp_path: Path, offset: int) -> None:
    torch.set_num_threads(1)
    expected, reference, weights = run_pairs(tmp_path / "undisturbed")
    told = {step.step: (step.loss, step.preference) for step in reference.steps}
    ended, at = False, 1 + offset
    while not ended:
        place = tmp_path / f"killed-{at}"
        ended = killed_run(place, at, run_pairs)
        result, hooks, found = run_pairs(place)
        assert result == expected
        assert all(torch.equal(a, b) for a, b in zip(found, weights, strict=True))
        assert {step.step: (step.loss, step.preference) for step in hooks.steps}.items() <= told.items()
        at += 10
    assert at > 60, "too few moments were tried"


def fail_from(number: int, error: Callable[[], BaseException]) -> Callable[..., None]:
    """``save_file`` that works until its nth call, and then as a disk that got into trouble."""
    calls = iter(range(1, 1_000))

    def save(*arguments: Any) -> None:
        if next(calls) >= number:
            Path(arguments[1]).write_bytes(b"half")
            raise error()
        save_file(*arguments)

    return save


TROUBLES: dict[str, tuple[Callable[[], BaseException], type[Exception]]] = {
    # The text of safetensors' own error on a full tmpfs.
    "full": (lambda: SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), StorageFull),
    "quota": (lambda: OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull),
    "read-only": (lambda: OSError(errno.EROFS, "Read-only file system"), OSError),
    "broken": (lambda: SafetensorError("Error while serializing: I/O error: Input/output error (os error 5)"), OSError),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("number", [1, 4])
def test_a_disk_in_trouble_ends_the_run_and_the_next_goes_on(
    tmp_path: Path, reference: tuple[TrainResult, Publishing], trouble: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, expected = TROUBLES[trouble]
    place = tmp_path / "troubled"
    monkeypatch.setattr(resume, "save_file", fail_from(number, error))
    with pytest.raises(expected):
        run(place)
    assert not any(is_temporary(path) for path in (place / "resume").iterdir()), "half a state was left lying"
    before = resume.newest_step(place / "resume")
    assert (before > 0) == (number > 1)
    monkeypatch.undo()
    found = run(place)
    assert found[1].steps[0].step == before + 1
    check_same_end(found, reference, place)


def test_a_real_limit_of_the_system_is_told_as_such(tmp_path: Path) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            publish_folder(tmp_path / "a", lambda folder: save_file({"x": torch.zeros(100_000)}, folder / "x.safetensors"), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_slow_disk_stalls_no_step_and_loses_none(
    tmp_path: Path, reference: tuple[TrainResult, Publishing], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second state is being written until three steps later: steps go on meanwhile, and no other state is begun."""
    go_on = threading.Event()
    begun: list[resume.ResumeState] = []
    seen: list[int] = []
    save, report = resume.ResumeStore.save, Publishing.step_done

    def slowly(*arguments: Any) -> None:
        assert len(begun) < 2 or go_on.wait(60)
        save_file(*arguments)

    def begin(store: resume.ResumeStore, state: resume.ResumeState) -> None:
        begun.append(state)
        save(store, state)
        if len(begun) == 1:
            store.wait()

    def step_done(hooks: Publishing, step: Any) -> None:
        report(hooks, step)
        if len(begun) == 2:
            seen.append(step.step)
            if len(seen) == 3:
                go_on.set()

    monkeypatch.setattr(resume, "save_file", slowly)
    monkeypatch.setattr(resume.ResumeStore, "save", begin)
    monkeypatch.setattr(Publishing, "step_done", step_done)
    place = tmp_path / "slow"
    check_same_end(run(place), reference, place)
    assert len(seen) >= 3
