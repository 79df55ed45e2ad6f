"""The engine as a pipeline sees it: waited for while it restarts, left alone once the run must stop."""

from typing import Any

import pytest

from luthier.core.engine_messages import Done, Status
from luthier.core.errors import Unavailable
from luthier.worker import patient_engine as module
from luthier.worker.patient_engine import PatientEngine


class Link:
    """Refuses as often as told, then answers."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls = 0

    def request(self, message: Status, *, timeout_seconds: float) -> Done:
        self.calls += 1
        if self.calls <= self.refusals:
            raise Unavailable("restarting")
        return Done()


def engine(link: Any, stop: bool = False) -> PatientEngine:
    return PatientEngine(link, lambda: stop)


def test_a_host_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)
    link = Link(refusals=3)
    assert engine(link).request(Status()) == Done()
    assert link.calls == 4


def test_a_host_that_stays_away_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", -1.0)
    link = Link(refusals=9)
    with pytest.raises(Unavailable, match="restarting"):
        engine(link).request(Status())
    assert link.calls == 1


def test_nothing_is_begun_once_the_run_must_stop() -> None:
    link = Link(refusals=0)
    with pytest.raises(Unavailable, match="must stop"):
        engine(link, stop=True).request(Status())
    assert link.calls == 0
