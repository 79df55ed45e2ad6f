from luthier.api.model_objects import alias_model_object, alias_object, default_alias_object, model_object, with_history
from luthier.core.aliases import Alias, AliasAction, AliasChange
from luthier.core.jobs import ModelKind
from luthier.core.settings import Settings
from tests.support.office import new_model

BASE = new_model("big", kind=ModelKind.BASE, base="big", revision="r1", licence="apache-2.0")
TUNED = new_model("ft:big:org::abcd0001", base="big", step=5, job_id="ftjob-1", created_at=7)
SETTINGS = Settings(organization="org", aliases={"x": "big"}, shutdown_dates={"big": "2027-01-14", "special": "2026-12-01"})


def test_a_model_shows_its_base_with_revision_and_licence() -> None:
    shown = model_object(TUNED, BASE, SETTINGS)
    assert shown["luthier"] == {
        "kind": "adapter",
        "base": "big",
        "base_revision": "r1",
        "licence": "apache-2.0",
        "alias_of": None,
        "job_id": "ftjob-1",
        "step": 5,
    }


def test_a_base_that_is_gone_leaves_nulls() -> None:
    assert model_object(TUNED, None, SETTINGS)["luthier"]["base_revision"] is None


def test_an_alias_shows_what_it_stands_for() -> None:
    shown = alias_model_object("support@prod", TUNED, BASE, SETTINGS, created=9)
    assert (shown["id"], shown["created"], shown["owned_by"]) == ("support@prod", 9, "org")
    assert shown["luthier"] == {"kind": "alias", "base": "big", "base_revision": "r1", "licence": "apache-2.0", "alias_of": TUNED.name}
    assert alias_model_object("x", TUNED, BASE, SETTINGS)["created"] == 7


def test_an_announced_end_is_told_for_all_that_hangs_on_it() -> None:
    assert model_object(BASE, BASE, SETTINGS)["shutdown_date"] == "2027-01-14"
    assert model_object(TUNED, BASE, SETTINGS)["shutdown_date"] == "2027-01-14"
    assert alias_model_object("special", TUNED, BASE, SETTINGS)["shutdown_date"] == "2026-12-01"
    assert model_object(TUNED, BASE, Settings())["shutdown_date"] is None


def test_an_alias_says_where_it_is_set() -> None:
    ours = alias_object(Alias(name="x", target="y", created_at=1, changed_at=2, changed_by="k"), SETTINGS)
    assert (ours["id"], ours["set_in"], ours["target"], ours["default_target"], ours["changed_by"]) == ("x", "database", "y", "big", "k")
    theirs = default_alias_object("x", SETTINGS)
    assert (theirs["set_in"], theirs["target"], theirs["created_at"]) == ("settings", "big", None)


def test_a_change_says_who_when_from_where_to_where() -> None:
    change = AliasChange(name="x", action=AliasAction.MOVED, from_target="a", to_target="b", changed_at=3, changed_by="k")
    (shown,) = with_history({}, [change])["history"]
    expected = {"object": "luthier.alias.change", "action": "moved", "from": "a", "to": "b", "changed_at": 3, "changed_by": "k"}
    assert shown == expected
