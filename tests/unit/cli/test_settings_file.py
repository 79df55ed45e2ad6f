"""``luthier.toml`` under the environment under the command line."""

import json
from pathlib import Path

import pytest

from luthier.cli.settings_file import read_settings
from luthier.core.errors import InvalidRequest
from luthier.core.settings import from_environment

TEXT = """
port = 9000
spec_strict = true
resume_share = 1
data_dir = "data"

[aliases]
"support@prod" = "ft:gpt-4o-mini-2024-07-18:acme::AbC12345"
"gpt-4o-mini-2024-07-18" = "my-base"

[shutdown_dates]
my-base = 2027-01-14
"""


def written(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / "luthier.toml"
    path.write_text(text, encoding="utf-8")
    return {"LUTHIER_CONFIG": str(path)}


def test_the_file_sets_what_nothing_else_sets(tmp_path: Path) -> None:
    env = written(tmp_path, TEXT) | {"LUTHIER_PORT": "9001"}
    settings = read_settings(env, host="0.0.0.0")
    assert (settings.port, settings.host, settings.spec_strict, settings.resume_share) == (9001, "0.0.0.0", True, 1.0)
    assert settings.data_dir == Path("data")
    assert settings.aliases == {"support@prod": "ft:gpt-4o-mini-2024-07-18:acme::AbC12345", "gpt-4o-mini-2024-07-18": "my-base"}
    assert settings.shutdown_dates == {"my-base": "2027-01-14"}
    assert from_environment(settings.environment()) == settings


def test_the_file_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings({}).port == 8000
    written(tmp_path, "port = 7")
    assert read_settings({}).port == 7


def test_the_environment_may_hold_the_aliases(tmp_path: Path) -> None:
    env = written(tmp_path, TEXT) | {"LUTHIER_ALIASES": json.dumps({"a": "b"})}
    assert read_settings(env).aliases == {"a": "b"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("port =", "not valid TOML"),
        ("prot = 1", "'prot', which is not a setting"),
        ('port = "1"', "'port' has the value '1'"),
        ("port = true", "'port' has the value True"),
        ("host = 1", "'host'"),
        ('aliases = "x"', r"\[aliases\] must be a table"),
        ("[aliases]\na = 1", r"\[aliases\] must be a table"),
        ("[aliases]\nsupport.prod = 'x'", "need quotes"),
        ("[aliases]\na = 'b'\nb = 'c'", "is an alias too"),
        ("[aliases]\n'a b' = 'c'", "not a name for an alias"),
        ("[shutdown_dates]\na = 'soon'", "not a date"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(InvalidRequest, match=part):
        read_settings(written(tmp_path, text))


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_settings({"LUTHIER_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize("text", ["[]", "{", '{"a": 1}'])
def test_aliases_in_the_environment_are_an_object_of_strings(text: str) -> None:
    with pytest.raises(InvalidRequest, match="LUTHIER_ALIASES"):
        read_settings({"LUTHIER_ALIASES": text})
