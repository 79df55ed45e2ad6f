"""Stored chat completions: rows, pages, filters, tombstones."""

from typing import Any

import pytest

from luthier.core.errors import NotFound
from luthier.core.ids import new_chat_completion_id
from luthier.core.stored_completions import StoredCompletion
from luthier.storage.database import Database
from luthier.storage.stored_completions import StoredCompletionStore
from tests.support.office import START, Clock


@pytest.fixture
def store(database: Database, clock: Clock) -> StoredCompletionStore:
    return StoredCompletionStore(database, clock)


def new_completion(**changes: Any) -> StoredCompletion:
    values: dict[str, Any] = {
        "id": new_chat_completion_id(),
        "created_at": START,
        "model": "luthier-mini",
        "completion": {"choices": [{"message": {"content": "né"}}]},
        "messages": ({"role": "user", "content": "hi"},),
        "tools": ({"type": "function"},),
        "metadata": {"a": "1"},
    }
    return StoredCompletion(**{**values, **changes})


def test_record_comes_back_as_it_was(store: StoredCompletionStore) -> None:
    record = new_completion()
    store.add(record)
    assert store.get(record.id) == record
    assert store.get("unknown") is None


def test_list_is_ordered_by_insertion_oldest_first(store: StoredCompletionStore) -> None:
    records = [new_completion(created_at=START - n) for n in range(4)]
    for record in records:
        store.add(record)
    assert list(store.list().items) == records
    assert list(store.list(order="desc").items) == records[::-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_join_to_the_whole_list_even_over_a_deleted_cursor(store: StoredCompletionStore, order: str) -> None:
    ids = [new_completion() for _ in range(5)]
    for record in ids:
        store.add(record)
    expected = [record.id for record in (ids if order == "asc" else ids[::-1])]
    first = store.list(limit=2, order=order)
    assert first.has_more
    after = first.items[-1].id
    store.delete(after)
    rest = store.list(limit=3, order=order, after=after)
    assert [r.id for r in (*first.items, *rest.items)] == expected
    assert not rest.has_more
    with pytest.raises(NotFound):
        store.list(after="chatcmpl-unknown")


def test_filters_hold_together(store: StoredCompletionStore) -> None:
    kept = new_completion(metadata={"a": "1", "b\"'%": "2"}, model="m")
    for record in (kept, new_completion(metadata={"a": "1"}, model="m"), new_completion(metadata={"a": "1", "b\"'%": "2"})):
        store.add(record)
    assert store.list(model="m", metadata={"a": "1", "b\"'%": "2"}).items == (kept,)
    assert store.list(metadata={"a": "2"}).items == ()


def test_metadata_changes_and_nothing_else(store: StoredCompletionStore) -> None:
    record, other = new_completion(), new_completion()
    store.add(record)
    store.add(other)
    assert store.set_metadata(record.id, {"b": "2"})
    assert not store.set_metadata("unknown", {})
    changed = store.get(record.id)
    assert changed is not None
    assert (changed.metadata, changed.completion, store.get(other.id)) == ({"b": "2"}, record.completion, other)


def test_delete_happens_once_and_takes_the_words_with_it(store: StoredCompletionStore, database: Database) -> None:
    record = new_completion()
    store.add(record)
    assert store.delete(record.id)
    assert not store.delete(record.id)
    assert not store.set_metadata(record.id, {})
    assert (store.get(record.id), store.list().items) == (None, ())
    with database.read() as connection:
        row = connection.exec_driver_sql("SELECT messages, completion, tools, metadata FROM stored_completions").one()
    assert tuple(row) == ("[]", "{}", "[]", "{}")
