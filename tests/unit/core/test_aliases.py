"""Names of aliases, the operator's table, and where a rollback leads."""

import pytest

from luthier.core.aliases import AliasAction, AliasChange, check_alias_name, check_alias_table, earlier_target
from luthier.core.errors import InvalidRequest


@pytest.mark.parametrize(
    "name",
    ["gpt-4o-mini-2024-07-18", "support@prod", "ft:gpt-4o-mini-2024-07-18:acme::AbC123", "davinci:ft-acme-2023-01-01", "org/Model-8B", "a"],
)
def test_names_of_models_are_names_of_aliases(name: str) -> None:
    check_alias_name(name)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "-a", ".", "..", "a/../b", "/a", "a/", "a//b", "a/rollback", "a?b", "a#b", "a%b", "é", "a\n", "x" * 257]
)
def test_what_no_path_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_alias_name(name)
    assert refused.value.param == "name"


def test_a_chain_in_the_operators_table_is_refused() -> None:
    check_alias_table({"a": "model", "b": "model"})
    with pytest.raises(InvalidRequest, match="'b', which is an alias too"):
        check_alias_table({"a": "b", "b": "model"})


def history(*steps: tuple[AliasAction, str | None, str | None]) -> list[AliasChange]:
    return [
        AliasChange(name="x", action=action, from_target=before, to_target=after, changed_at=i, changed_by="k")
        for i, (action, before, after) in enumerate(steps)
    ]


CREATE, MOVE, BACK, DELETE = AliasAction.CREATED, AliasAction.MOVED, AliasAction.ROLLED_BACK, AliasAction.DELETED


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], None),
        ([(CREATE, None, "a")], None),
        ([(CREATE, None, "a"), (MOVE, "a", "b")], "a"),
        ([(CREATE, None, "a"), (MOVE, "a", "b"), (MOVE, "b", "c")], "b"),
        ([(CREATE, None, "a"), (MOVE, "a", "b"), (MOVE, "b", "c"), (BACK, "c", "b")], "a"),
        ([(CREATE, None, "a"), (MOVE, "a", "b"), (BACK, "b", "a")], None),
        ([(CREATE, None, "a"), (MOVE, "a", "b"), (BACK, "b", "a"), (MOVE, "a", "c")], "a"),
        ([(CREATE, None, "a"), (MOVE, "a", "b"), (DELETE, "b", None), (CREATE, None, "c")], None),
        ([(MOVE, "default", "b")], "default"),
        ([(MOVE, "default", "b"), (BACK, "b", "default")], None),
    ],
)
def test_a_rollback_takes_moves_off_one_by_one(steps: list[tuple[AliasAction, str | None, str | None]], expected: str | None) -> None:
    assert earlier_target(history(*steps)) == expected
