"""Responses: kept with their context, paged, found by item, deleted, forgotten after 30 days."""

from typing import Any

import pytest
from sqlalchemy import func, select

from luthier.core.errors import NotFound
from luthier.storage import schema
from luthier.storage.database import Database
from luthier.storage.responses import KEPT_SECONDS, ResponseStore
from tests.support.office import Clock


@pytest.fixture
def responses(database: Database, clock: Clock) -> ResponseStore:
    return ResponseStore(database, clock)


def item(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "type": "message", **fields}


def body(name: str, clock: Clock, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "created_at": int(clock()), "output": list(outputs)}


def rows(database: Database) -> tuple[int, int]:
    with database.read() as connection:
        counts = [connection.execute(select(func.count()).select_from(t)).scalar_one() for t in (schema.responses, schema.response_items)]
    return counts[0], counts[1]


def test_a_response_comes_back_with_its_context(responses: ResponseStore, clock: Clock) -> None:
    made = body("resp_1", clock, item("out"))
    responses.add(made, [item("a"), item("b")])
    assert responses.get("resp_1") == made
    assert responses.context("resp_1") == (item("a"), item("b"), item("out"))
    assert (responses.get("resp_2"), responses.context("resp_2")) == (None, None)


def test_input_is_paged_both_ways_without_the_output(responses: ResponseStore, clock: Clock) -> None:
    responses.add(body("resp_1", clock, item("out")), [item("a"), item("b"), item("c")])
    responses.add(body("resp_2", clock), [item("a"), item("x")])
    page = responses.input_items("resp_1", limit=2)
    assert ([i["id"] for i in page.items], page.has_more) == (["c", "b"], True)
    page = responses.input_items("resp_1", limit=2, after="b")
    assert ([i["id"] for i in page.items], page.has_more) == (["a"], False)
    page = responses.input_items("resp_1", order="asc", after="a")
    assert [i["id"] for i in page.items] == ["b", "c"]
    for foreign in ("x", "out"):
        with pytest.raises(NotFound, match=f"Item with id '{foreign}' not found."):
            responses.input_items("resp_1", after=foreign)


def test_an_item_is_found_as_it_last_stood(responses: ResponseStore, clock: Clock) -> None:
    responses.add(body("resp_1", clock, item("a", text="old")), [])
    responses.add(body("resp_2", clock), [item("a", text="new")])
    assert responses.find_item("a") == item("a", text="new")
    assert responses.find_item("b") is None


def test_deletion_leaves_nothing_of_it_and_all_of_the_others(responses: ResponseStore, database: Database, clock: Clock) -> None:
    responses.add(body("resp_1", clock, item("a")), [item("b")])
    responses.add(body("resp_2", clock), [item("b"), item("a")])
    assert responses.delete("resp_1")
    assert not responses.delete("resp_1")
    assert responses.get("resp_1") is None
    assert responses.context("resp_2") == (item("b"), item("a"))
    assert rows(database) == (1, 2)


def test_after_thirty_days_it_is_gone(responses: ResponseStore, database: Database, clock: Clock) -> None:
    responses.add(body("resp_1", clock, item("a")), [])
    clock.now += KEPT_SECONDS - 1
    assert responses.get("resp_1") is not None
    clock.now += 1
    assert (responses.get("resp_1"), responses.context("resp_1"), responses.find_item("a")) == (None, None, None)
    assert not responses.delete("resp_1")
    responses.add(body("resp_2", clock), [])
    assert rows(database) == (1, 0)
