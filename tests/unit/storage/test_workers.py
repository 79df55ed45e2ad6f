"""Signs of life."""

from luthier.storage.database import Database
from luthier.storage.workers import WorkerStore
from tests.support.office import START


def test_latest_beat_of_a_role(database: Database) -> None:
    workers = WorkerStore(database)
    assert workers.latest("trainer") is None
    workers.beat("a", "trainer", START)
    workers.beat("b", "trainer", START + 2)
    workers.beat("c", "validator", START + 9)
    workers.beat("a", "trainer", START + 1)
    assert workers.latest("trainer") == START + 2
    workers.beat("a", "trainer", START + 3)
    assert workers.latest("trainer") == START + 3


def test_beats_of_yesterday_are_forgotten(database: Database) -> None:
    workers = WorkerStore(database)
    workers.beat("a", "trainer", START)
    workers.beat("b", "validator", START + 2 * 24 * 3600)
    assert workers.latest("trainer") is None


def test_one_process_in_two_roles_beats_in_both(database: Database) -> None:
    workers = WorkerStore(database)
    workers.beat("a", "train", START)
    workers.beat("a", "validate", START + 1)
    assert workers.latest("train") == START
    assert workers.latest("validate") == START + 1
