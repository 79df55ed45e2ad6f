"""Ids in OpenAI's shapes, and the names of tuned models."""

import re
from collections.abc import Callable

import pytest

from luthier.core import ids
from luthier.core.model_names import base_of, normalise_suffix, tuned_model_name


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (ids.new_file_id, r"file-[0-9A-Za-z]{22}"),
        (ids.new_upload_id, r"upload_[0-9a-f]{32}"),
        (ids.new_part_id, r"part_[0-9a-f]{32}"),
        (ids.new_job_id, r"ftjob-[0-9A-Za-z]{24}"),
        (ids.new_event_id, r"ftevent-[0-9A-Za-z]{24}"),
        (ids.new_checkpoint_id, r"ftckpt_[0-9A-Za-z]{24}"),
        (ids.new_chat_completion_id, r"chatcmpl-[0-9A-Za-z]{29}"),
        (ids.new_request_id, r"req_[0-9a-f]{32}"),
    ],
)
def test_shapes(make: Callable[[], str], shape: str) -> None:
    assert re.fullmatch(shape, make())
    assert make() != make()


def test_names_of_tuned_models() -> None:
    assert tuned_model_name("gpt-4o-mini-2024-07-18", "acme", None, "AbC12345") == "ft:gpt-4o-mini-2024-07-18:acme::AbC12345"
    assert tuned_model_name("b", "Acme Inc", "x", "AbC12345", step=88) == "ft:b:acme-inc:x:AbC12345:ckpt-step-88"


@pytest.mark.parametrize(("asked", "made"), [("My Suffix:x", "my-suffix-x"), ("", ""), (None, ""), ("::", ""), ("v1.2_ok", "v1.2_ok")])
def test_colons_never_survive_a_suffix(asked: str | None, made: str) -> None:
    assert normalise_suffix(asked) == made


def test_base_of_a_name() -> None:
    assert base_of("ft:gpt-4o:acme::AbC12345:ckpt-step-3") == "gpt-4o"
    assert base_of("gpt-4o") == "gpt-4o"
