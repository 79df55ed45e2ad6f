from luthier.core.engine_messages import Failed
from luthier.core.errors import InvalidRequest, NotFound
from luthier.deployment.host_requests import failure_of, resident_bytes


class Corrupt(InvalidRequest):
    """A finer class of another room."""


def test_an_error_is_named_by_its_class_in_core() -> None:
    assert failure_of(NotFound("gone", code="c", param="p")) == Failed(kind="NotFound", message="gone", code="c", param="p")
    assert failure_of(Corrupt("bad")) == Failed(kind="InvalidRequest", message="bad")


def test_resident_memory_is_that_of_a_python_process() -> None:
    assert resident_bytes() > 10_000_000
