"""Rules on files by purpose."""

import pytest

from luthier.api.file_rules import check_filename, largest, new_file
from luthier.core.errors import InvalidRequest

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("purpose", "limit", "expected"),
    [("batch", 512 * MIB, 200 * MIB), ("batch", MIB, MIB), ("fine-tune", 512 * MIB, 512 * MIB), ("vision", MIB, MIB)],
)
def test_batch_files_are_smaller(purpose: str, limit: int, expected: int) -> None:
    assert largest(purpose, limit) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "A.JSONL", "upload", "x.y/upload", ".jsonl", "../a.jsonl"])
def test_names_that_pass(name: str) -> None:
    check_filename(name, "fine-tune", "file")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl.gz", "a.jsonl/b.csv", "a."])
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"Must be \.jsonl") as error:
        check_filename(name, "batch", "filename")
    assert error.value.param == "filename"
    check_filename(name, "assistants", "filename")


def test_expiry_of_a_new_file() -> None:
    for purpose, given, expected in (("batch", None, 10 + 2592000), ("batch", 3600, 3610), ("fine-tune", None, None)):
        assert new_file("a", purpose, given, sha256="b" * 64, num_bytes=1, now=10).expires_at == expected
