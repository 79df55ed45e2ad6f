"""Finding a server and its key."""

import json
from pathlib import Path

import pytest

from luthier.cli.client import DEFAULT_URL, Server, client_of, find_server, is_ready, read_key
from luthier.core.errors import AuthenticationFailed, InvalidRequest


def folder(tmp_path: Path, *, key: str | None = "sk-luthier-x\n", url: str | None = "http://127.0.0.1:4321") -> Path:
    if key is not None:
        (tmp_path / "api_key").write_text(key, encoding="utf-8")
    if url is not None:
        (tmp_path / "server.json").write_text(json.dumps({"url": url, "pid": 1}), encoding="utf-8")
    return tmp_path


def test_the_data_directory_names_address_and_key(tmp_path: Path) -> None:
    assert find_server(data_dir=folder(tmp_path), environ={}) == Server("http://127.0.0.1:4321", "sk-luthier-x")


def test_the_environment_names_the_data_directory(tmp_path: Path) -> None:
    assert find_server(environ={"LUTHIER_DATA_DIR": str(folder(tmp_path))}).key == "sk-luthier-x"


def test_options_win_over_environment_and_directory(tmp_path: Path) -> None:
    env = {"LUTHIER_URL": "http://env:1", "LUTHIER_API_KEY": "sk-env"}
    data_dir = folder(tmp_path)
    assert find_server(data_dir=data_dir, environ=env) == Server("http://env:1", "sk-env")
    assert find_server(url="http://option:2/v1/", api_key="sk-option", data_dir=data_dir, environ=env) == Server(
        "http://option:2", "sk-option"
    )


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', '{"url": 3}', "{"])
def test_without_an_announced_address_the_default_one_is_taken(tmp_path: Path, content: str) -> None:
    data_dir = folder(tmp_path, url=None)
    (data_dir / "server.json").write_text(content, encoding="utf-8")
    assert find_server(data_dir=data_dir, environ={}).url == DEFAULT_URL


@pytest.mark.parametrize("key", [None, "", "  \n"])
def test_no_key_is_a_sentence(tmp_path: Path, key: str | None) -> None:
    with pytest.raises(AuthenticationFailed, match="No API key"):
        find_server(data_dir=folder(tmp_path, key=key), environ={})


def test_a_foreign_key_is_never_used_without_an_address(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "sk-not-ours", "LUTHIER_DATA_DIR": str(tmp_path)}
    with pytest.raises(AuthenticationFailed):
        find_server(environ=env)
    folder(tmp_path)
    assert find_server(environ=env) == Server("http://127.0.0.1:4321", "sk-luthier-x")


def test_the_official_clients_variables_win_over_the_data_directory(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": "http://openai-env:1/v1", "OPENAI_API_KEY": "sk-openai", "LUTHIER_DATA_DIR": str(folder(tmp_path))}
    assert find_server(environ=env) == Server("http://openai-env:1", "sk-openai")
    assert find_server(environ={**env, "LUTHIER_URL": "http://env:2"}) == Server("http://env:2", "sk-openai")
    assert find_server(environ={**env, "LUTHIER_API_KEY": "sk-env"}) == Server("http://openai-env:1", "sk-env")
    assert find_server(url="http://option:3", environ=env) == Server("http://option:3", "sk-openai")
    del env["OPENAI_API_KEY"]
    assert find_server(environ=env) == Server("http://openai-env:1", "sk-luthier-x")


def test_a_data_directory_that_is_named_by_hand_wins_over_the_official_clients_variables(tmp_path: Path) -> None:
    env = {"OPENAI_BASE_URL": "http://openai-env:1/v1", "OPENAI_API_KEY": "sk-openai"}
    assert find_server(data_dir=folder(tmp_path), environ=env) == Server("http://127.0.0.1:4321", "sk-luthier-x")


@pytest.mark.parametrize("url", ["host:1", "ftp://host", "http://", "http://[::1", "http://host:many", "/v1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is not the address of a server"):
        find_server(url=url, api_key="sk-x", environ={})


@pytest.mark.parametrize("key", ["sk-\u00e9", "sk-a\nb"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(AuthenticationFailed):
        find_server(url="http://host:1", api_key=key, environ={})


def test_the_client_speaks_to_v1() -> None:
    client = client_of(Server("http://127.0.0.1:4321", "sk-x"))
    assert (str(client.base_url), client.api_key) == ("http://127.0.0.1:4321/v1/", "sk-x")


def test_nobody_there_is_not_ready() -> None:
    assert is_ready("http://127.0.0.1:9") is False


def test_read_key_of_a_missing_file(tmp_path: Path) -> None:
    assert read_key(tmp_path / "none") is None
