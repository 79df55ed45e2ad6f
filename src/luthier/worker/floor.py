"""The floor: the one thread of a training process that computes, and the base that all of its runs share.

What it does: ``SharedFloor.work`` takes one turn of one run after the other (``fair_turns.py`` says whose); each run has a thread of its
own, with a ``Seat``, for all that needs no turn: reading files, writing checkpoints, asking the engine. One thread computes, so there is
one heap and one pool of threads, whatever the number of runs. What it does not: know jobs, leases or projects. ``SoleFloor`` is the
same for a process with one run. Built in ``group_child.py`` and ``child.py``.
"""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from luthier.training.answers import OfferedAnswers, answer_together
from luthier.training.loop import Trainer, TrainResult
from luthier.training.memory import LeftOver, resident_bytes
from luthier.training.together import OfferedStep, do_together
from luthier.training.turns import Beside, Turns
from luthier.worker.fair_turns import FairTurns

Result = TypeVar("Result")
_AWAITED_TURNS = 2
"""Turns that a run may have before what others offer is done: in the first it may end what it was about, in the second it offers too."""
_AWAY_SECONDS = 0.1
"""So long what is offered waits for a run that has left its turn for something, such as the write of a checkpoint: runs that have fallen
out of step would each take a forward of their own."""


class Floor(Protocol):
    """Where one run computes."""

    @property
    def process_bytes(self) -> int:
        """Resident memory of the process but for its models and runs."""
        ...

    @property
    def was_shared(self) -> bool:
        """True when others have computed here since the run began: what the process was seen to take is not the run's alone."""
        ...

    def model(self, folder: Path, *, device: str, dtype: torch.dtype, own: bool, quantization: str | None = None) -> LanguageModel:
        """The model of a folder, held as ``load_model`` says; ``own``: its weights will be changed, so that nobody else may have them."""
        ...

    def train(self, trainer: Trainer, adapter: str | None) -> TrainResult:
        """Train to the end, or until it must stop. ``adapter``: what the trainer attaches to its model."""
        ...

    def call(self, act: Callable[[], Result]) -> Result:
        """Do something that computes, or changes a model."""
        ...

    def stretch(self) -> float:
        """By how much longer a run takes now than alone."""
        ...


class SoleFloor:
    """The floor of a process with one run: its own thread computes."""

    was_shared = False

    @property
    def process_bytes(self) -> int:
        """See ``Floor``."""
        return resident_bytes()

    def model(self, folder: Path, *, device: str, dtype: torch.dtype, own: bool, quantization: str | None = None) -> LanguageModel:
        """See ``Floor``."""
        return load_model(folder, device=device, dtype=dtype, quantization=quantization)

    def train(self, trainer: Trainer, adapter: str | None) -> TrainResult:
        """See ``Floor``."""
        return trainer.run()

    def call(self, act: Callable[[], Result]) -> Result:
        """See ``Floor``."""
        return act()

    def stretch(self) -> float:
        """See ``Floor``."""
        return 1.0


class _Task:
    """Turns that a run's thread waits for."""

    def __init__(self, name: str, turns: Turns[Any]) -> None:
        self.name, self.turns = name, turns
        self.news = threading.Event()
        self.beside: Beside | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.over = False


class SharedFloor:
    """One base, several runs. ``work`` is called once, by the thread that computes; everything else by the runs' threads."""

    def __init__(self) -> None:
        self.process_bytes = resident_bytes()
        self._changed = threading.Condition()
        self._fair = FairTurns()
        self._ready: dict[str, _Task] = {}
        self._calls: list[_Task] = []
        self._offers: list[_Task] = []
        self._moved: dict[str, int] = {}
        """Turns of each run since the first offer that still waits."""
        self._away: dict[str, float] = {}
        """Runs that do something beside, and since when."""
        self._models: dict[tuple[Path, str, torch.dtype, str | None], LanguageModel] = {}
        self._closed = False
        self._seconds: dict[str, float] = {}
        self.current: str | None = None
        """Whose turn it is."""

    def work(self) -> None:
        """Take turns until ``close``."""
        left_over = LeftOver()
        while (task := self._next()) is not None:
            if len(self._fair) > 1:
                left_over.give_back()
            if isinstance(task, list):
                self._join(task)
                continue
            began = time.perf_counter()
            try:
                task.beside = next(task.turns)
            except StopIteration as end:
                task.result, task.over = end.value, True
            except BaseException as error:  # noqa: BLE001 - it belongs to the run, whose own thread raises it
                task.error = error
            self._after(task, time.perf_counter() - began)

    def _join(self, tasks: "list[_Task]") -> None:
        """Do what these runs offer, at once; what cannot be done so, each does in its next turn."""
        offers = [task.beside for task in tasks if isinstance(task.beside, OfferedStep | OfferedAnswers)]
        do_together([offer for offer in offers if isinstance(offer, OfferedStep)])
        answer_together([offer for offer in offers if isinstance(offer, OfferedAnswers)])
        with self._changed:
            for task, offer in zip(tasks, offers, strict=True):
                task.beside = None
                self._charge(task.name, offer.seconds)
                self._ready[task.name] = task

    def close(self) -> None:
        """``work`` returns; nobody may be waiting for a turn."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> _Task | list[_Task] | None:
        """A run's turn, or all offers once everybody else who could compute has had its turns since the first of them."""
        with self._changed:
            while not self._closed and not self._calls and not self._awaited():
                away = self._just_left() if self._offers else None
                if away == 0.0:
                    offers, self._offers, self._moved = self._offers, [], {}
                    return offers
                self._changed.wait(away)
            if self._closed:
                return None
            if self._calls:
                task = self._calls.pop(0)
            else:
                awaited = self._awaited()
                task = self._ready.pop(self._fair.next(awaited))
                if self._offers:
                    self._moved[task.name] = self._moved.get(task.name, 0) + 1
            self.current = task.name
            return task

    def _awaited(self) -> list[str]:
        """Runs that may have a turn before what is offered is done."""
        return [name for name in self._ready if not self._offers or self._moved.get(name, 0) < _AWAITED_TURNS]

    def _just_left(self) -> float:
        """Seconds for which what is offered still waits for runs that are away."""
        now = time.perf_counter()
        return max((left + _AWAY_SECONDS - now for left in self._away.values() if left + _AWAY_SECONDS > now), default=0.0)

    def _after(self, task: _Task, seconds: float) -> None:
        with self._changed:
            self.current = None
            self._charge(task.name, seconds)
            if task.error is not None or task.over:
                task.news.set()
            elif task.beside is None:
                self._ready[task.name] = task
            elif isinstance(task.beside, OfferedStep | OfferedAnswers):
                self._offers.append(task)
            else:
                self._away[task.name] = time.perf_counter()
                task.news.set()

    def _charge(self, name: str, seconds: float) -> None:
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds
        if name in self._fair:
            self._fair.spend(name, seconds)

    def run(self, name: str, turns: Turns[Result], *, project: str, weight: float) -> Result:
        """Take part with these turns; returns at their end."""
        task = _Task(name, turns)
        with self._changed:
            self._fair.join(name, project=project, weight=weight)
            self._ready[name] = task
            self._changed.notify_all()
        try:
            while not self._has_ended(task):
                assert task.beside is not None
                task.beside()
                with self._changed:
                    if time.perf_counter() - self._away.pop(name) < _AWAY_SECONDS:
                        self._moved.pop(name, None)  # what waited for it waits for its next turn too
                    self._fair.come_back(name, self._ready)
                    self._ready[name] = task
                    self._changed.notify_all()
            return task.result
        finally:
            with self._changed:
                self._away.pop(name, None)
                self._fair.leave(name)
                self._changed.notify_all()

    def call(self, name: str, act: Callable[[], Result]) -> Result:
        """Before the next turn of anybody."""

        def once() -> Turns[Result]:
            return act()
            yield

        task = _Task(name, once())
        with self._changed:
            self._calls.append(task)
            self._changed.notify_all()
        self._has_ended(task)
        return task.result

    def seconds(self, name: str) -> float:
        """Of all of a run's turns."""
        with self._changed:
            return self._seconds.get(name, 0.0)

    def share(self, name: str) -> float:
        """See ``FairTurns.share``."""
        with self._changed:
            return self._fair.share(name)

    def model(
        self, name: str, folder: Path, *, device: str, dtype: torch.dtype, own: bool, quantization: str | None = None
    ) -> LanguageModel:
        """The one copy of the model, or one that nobody else gets."""

        def load() -> LanguageModel:
            return load_model(folder, device=device, dtype=dtype, quantization=quantization)

        def take() -> LanguageModel:
            key = (folder, device, dtype, quantization)
            if key not in self._models:
                self._models[key] = load()
            return self._models[key]

        return self.call(name, load if own else take)

    def _has_ended(self, task: _Task) -> bool:
        task.news.wait()
        task.news.clear()
        if task.error is not None:
            raise task.error
        return task.over


class Seat:
    """One run's place on a shared floor: a ``Floor``.

    Args:
        floor: shared.
        name: unique among its runs, also as an adapter's name.
        project: whose time it takes.
        weight: its part of that time, beside other runs of the project.
        company: how many others have been there since this run began.
    """

    def __init__(self, floor: SharedFloor, *, name: str, project: str, weight: float, company: Callable[[], int]) -> None:
        self._floor, self._name, self._project, self._weight = floor, name, project, weight
        self._company = company
        self._tuned: tuple[LanguageModel, str] | None = None
        self._model: LanguageModel | None = None

    @property
    def process_bytes(self) -> int:
        """See ``Floor``."""
        return self._floor.process_bytes

    @property
    def was_shared(self) -> bool:
        """See ``Floor``."""
        return self._company() > 0

    def model(self, folder: Path, *, device: str, dtype: torch.dtype, own: bool, quantization: str | None = None) -> LanguageModel:
        """See ``Floor``."""
        self._model = self._floor.model(self._name, folder, device=device, dtype=dtype, own=own, quantization=quantization)
        return self._model

    def train(self, trainer: Trainer, adapter: str | None) -> TrainResult:
        """See ``Floor``."""
        if adapter is not None and self._model is not None:
            self._tuned = self._model, adapter
        try:
            return self._floor.run(self._name, trainer.turns(joins=True), project=self._project, weight=self._weight)
        finally:
            trainer.wait_for_saves()

    def call(self, act: Callable[[], Result]) -> Result:
        """See ``Floor``."""
        return self._floor.call(self._name, act)

    def stretch(self) -> float:
        """See ``Floor``."""
        return 1.0 / self._floor.share(self._name)

    @property
    def seconds(self) -> float:
        """Of all turns so far."""
        return self._floor.seconds(self._name)

    def leave(self) -> None:
        """Give the memory of the run's adapter back."""
        if self._tuned is not None:
            model, adapter = self._tuned
            self.call(lambda: model.remove_adapter(adapter))
            self._tuned = None
