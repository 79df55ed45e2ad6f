"""Settings: environment there and back, clear refusals, the data directory's layout."""

from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.core.settings import OPENAI_BASE_NAMES, OPENAI_SNAPSHOTS, Settings, from_environment


def test_environment_there_and_back() -> None:
    settings = Settings(data_dir=Path("/a b"), port=0, spec_strict=True, resume_share=0.5, organization="acme")
    assert from_environment(settings.environment()) == settings


def test_arguments_win_and_none_means_not_given() -> None:
    settings = from_environment({"LUTHIER_PORT": "9", "LUTHIER_HOST": "h"}, port=7, host=None)
    assert (settings.port, settings.host) == (7, "h")


@pytest.mark.parametrize(("name", "text"), [("LUTHIER_PORT", "many"), ("LUTHIER_SPEC_STRICT", "perhaps"), ("LUTHIER_RESUME_SHARE", "")])
def test_a_value_of_the_wrong_type_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        from_environment({name: text})


@pytest.mark.parametrize("name", ["REQUESTS_PER_MINUTE", "TOKENS_PER_MINUTE", "CONCURRENT_GENERATIONS", "JOBS_PER_DAY"])
def test_a_limit_is_not_negative(name: str) -> None:
    assert from_environment({f"LUTHIER_{name}": "0"}) == Settings()
    with pytest.raises(InvalidRequest, match=name):
        from_environment({f"LUTHIER_{name}": "-1"})


def test_model_paths_lie_in_the_data_directory_or_the_package(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.resolve_model_path("models/x") == tmp_path.resolve() / "models" / "x"
    assert (settings.resolve_model_path("builtin:luthier-mini") / "config.json").is_file()


def test_every_undated_name_leads_to_a_known_snapshot() -> None:
    assert set(OPENAI_SNAPSHOTS.values()) <= set(OPENAI_BASE_NAMES)
    assert set(OPENAI_SNAPSHOTS) <= set(OPENAI_BASE_NAMES)
