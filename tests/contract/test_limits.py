"""Sizes: a server of its own with small limits."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.api_server import ApiServer


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("small") / "data", max_file_bytes=3_000_000, max_line_bytes=1000)
    yield server
    server.stop()


def test_a_file_over_the_limit_is_413_and_not_retried(small: ApiServer) -> None:
    row = b'{"a": 1}\n'
    with pytest.raises(openai.APIStatusError) as error:
        small.client().files.create(file=("x.jsonl", row * 800_000), purpose="fine-tune")
    assert error.value.status_code == 413
    assert error.value.response.headers["x-should-retry"] == "false"
    assert not list(Path(small.services.settings.blobs_dir).rglob("*/??????????*"))


def test_a_line_over_the_limit_is_refused(small: ApiServer) -> None:
    with pytest.raises(openai.BadRequestError, match="Line 2 is longer than the maximum of 1000 bytes"):
        small.client().files.create(file=("x.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 2_000_000), purpose="fine-tune")


def test_a_body_over_the_limit_is_413(small: ApiServer) -> None:
    with small.http() as http:
        answer = http.post("/v1/chat/completions", content=b" " * (17 * 1024 * 1024), headers={"content-type": "application/json"})
    assert answer.status_code == 413
