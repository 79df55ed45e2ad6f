"""Aliases: every change a row, checked against the models in the same transaction."""

import threading

import pytest

from luthier.core.aliases import AliasAction
from luthier.core.errors import InvalidRequest, NotFound
from luthier.storage.aliases import AliasStore
from luthier.storage.database import Database
from luthier.storage.models import ModelStore
from tests.support.office import START, Clock, new_model


@pytest.fixture
def models(database: Database) -> ModelStore:
    store = ModelStore(database)
    for name in ("a", "b", "c"):
        store.put(new_model(name))
    return store


@pytest.fixture
def aliases(database: Database, models: ModelStore, clock: Clock) -> AliasStore:
    return AliasStore(database, {"default": "a", "other": "b"}, clock)


def test_a_life_of_an_alias(aliases: AliasStore, models: ModelStore, clock: Clock) -> None:
    aliases.create("x", "a", by="one")
    clock.now += 5
    aliases.move("x", "b", by="two")
    alias = aliases.get("x")
    assert alias is not None
    assert (alias.target, alias.created_at, alias.changed_at, alias.changed_by) == ("b", START, START + 5, "two")
    assert models.alias_target("x") == "b"
    assert aliases.rollback("x", by="three").target == "a"
    aliases.delete("x", by="four")
    assert aliases.get("x") is None
    assert models.alias_target("x") is None
    changes = [(c.action, c.from_target, c.to_target, c.changed_by) for c in aliases.history("x")]
    assert changes == [
        (AliasAction.DELETED, "a", None, "four"),
        (AliasAction.ROLLED_BACK, "b", "a", "three"),
        (AliasAction.MOVED, "a", "b", "two"),
        (AliasAction.CREATED, None, "a", "one"),
    ]


def test_the_same_target_again_is_no_change(aliases: AliasStore) -> None:
    aliases.create("x", "a", by="one")
    assert aliases.move("x", "a", by="two").changed_by == "one"
    assert len(aliases.history("x")) == 1


def test_the_list_is_newest_first_and_an_alias_made_again_is_new(aliases: AliasStore) -> None:
    for name in ("x", "y"):
        aliases.create(name, "a", by="k")
    aliases.move("x", "b", by="k")
    assert [a.name for a in aliases.list()] == ["y", "x"]
    aliases.delete("x", by="k")
    aliases.create("x", "c", by="k")
    assert [a.name for a in aliases.list()] == ["x", "y"]


def test_a_rollback_needs_an_earlier_target_that_is_still_there(aliases: AliasStore, models: ModelStore) -> None:
    aliases.create("x", "a", by="k")
    with pytest.raises(InvalidRequest) as refused:
        aliases.rollback("x", by="k")
    assert refused.value.code == "no_earlier_target"
    aliases.move("x", "b", by="k")
    models.delete("a")
    with pytest.raises(NotFound) as gone:
        aliases.rollback("x", by="k")
    assert (gone.value.code, gone.value.param) == ("model_not_found", "target")
    assert models.alias_target("x") == "b"


@pytest.mark.parametrize(("name", "target", "code"), [("x", "b", "alias_exists"), ("a", "b", "model_exists"), ("y", "x", "alias_of_alias")])
def test_names_and_targets_that_clash_are_refused(aliases: AliasStore, name: str, target: str, code: str) -> None:
    aliases.create("x", "a", by="k")
    with pytest.raises(InvalidRequest) as refused:
        aliases.create(name, target, by="k")
    assert refused.value.code == code
    assert len(aliases.list()) == 1


def test_unknown_names_and_targets_are_not_found(aliases: AliasStore) -> None:
    for call in (aliases.move, aliases.create):
        with pytest.raises(NotFound):
            call("nothing" if call == aliases.move else "x", "nothing", by="k")
    for change in (aliases.rollback, aliases.delete):
        with pytest.raises(NotFound) as error:
            change("nothing", by="k")
        assert error.value.code == "alias_not_found"
    assert aliases.list() == ()


def test_a_default_is_overridden_and_comes_back(aliases: AliasStore, models: ModelStore) -> None:
    assert aliases.move("default", "b", by="k").target == "b"
    assert aliases.rollback("default", by="k").target == "a"
    aliases.delete("default", by="k")
    assert models.alias_target("default") is None
    with pytest.raises(InvalidRequest) as refused:
        aliases.delete("default", by="k")
    assert refused.value.code == "alias_in_settings"
    with pytest.raises(InvalidRequest) as chain:
        aliases.create("x", "default", by="k")
    assert chain.value.code == "alias_of_alias"


def test_a_default_that_hides_behind_a_model_cannot_be_moved(database: Database, models: ModelStore) -> None:
    with pytest.raises(InvalidRequest) as refused:
        AliasStore(database, {"c": "a"}).move("c", "b", by="k")
    assert refused.value.code == "model_exists"
    assert models.alias_target("c") is None


def test_a_model_with_an_alias_stays(aliases: AliasStore, models: ModelStore) -> None:
    aliases.create("x", "c", by="k")
    with pytest.raises(InvalidRequest, match="the alias `x` stands for it"):
        models.delete("c")
    with pytest.raises(InvalidRequest, match="`other`"):
        models.delete("b", {"other": "b"})
    aliases.move("other", "a", by="k")
    aliases.move("x", "a", by="k")
    assert models.delete("b", {"other": "b"})
    assert models.delete("c")


def test_an_alias_may_take_the_name_of_a_deleted_model(aliases: AliasStore, models: ModelStore) -> None:
    models.delete("b")
    aliases.create("b", "a", by="k")
    assert models.alias_target("b") == "a"


def test_of_many_creations_at_once_one_wins(aliases: AliasStore) -> None:
    outcomes: list[str] = []

    def create(target: str) -> None:
        try:
            aliases.create("x", target, by=target)
            outcomes.append(target)
        except InvalidRequest:
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(name,)) for name in "abc" * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("refused") == 8
    assert len(aliases.history("x")) == 1
