import inspect

import pytest

from luthier.api.errors import BY_CODE, CLASSES, TABLE, error_body, error_response, http_error_of
from luthier.core import errors
from luthier.core.errors import InvalidRequest, JobFailure, LuthierError, NotFound, StaleLease, StorageFull, TooManyRequests, Unavailable

TREE = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, LuthierError)]


@pytest.mark.parametrize("cls", TREE)
def test_every_class_of_the_tree_has_a_row(cls: type[LuthierError]) -> None:
    row = http_error_of(cls("text"))
    assert 400 <= row.status <= 507
    assert row == TABLE.get(cls, TABLE[LuthierError])


def test_a_subclass_takes_its_ancestors_row() -> None:
    class Special(NotFound):
        pass

    assert http_error_of(Special("x")).status == 404


def test_codes_overrule_classes() -> None:
    assert http_error_of(InvalidRequest("x", code="idempotency_key_reused")).status == 422
    assert http_error_of(InvalidRequest("x", code="request_too_large")).status == 413
    assert all(row.status < 500 for row in BY_CODE.values())


@pytest.mark.parametrize("cls", [LuthierError, JobFailure, StaleLease])
def test_faults_of_ours_keep_their_text_to_themselves(cls: type[LuthierError]) -> None:
    body = error_body(cls("/secret/path"))
    assert "/secret" not in str(body)
    assert body["error"]["type"] == "server_error"


def test_the_body_has_all_four_fields() -> None:
    assert error_body(NotFound("gone", code="c", param="p")) == {
        "error": {"message": "gone", "type": "invalid_request_error", "param": "p", "code": "c"}
    }


def test_headers_tell_the_client_whether_to_retry() -> None:
    assert error_response(Unavailable("x")).headers["retry-after"] == "1"
    assert error_response(StorageFull("x")).headers["x-should-retry"] == "false"


def test_a_rate_is_told_with_when_to_come_again() -> None:
    answer = error_response(TooManyRequests("x", code="rate_limit_exceeded", limited="tokens", retry_after=1.2005))
    assert error_body(TooManyRequests("x", limited="tokens"))["error"]["type"] == "tokens"
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("2", "1201")
    assert "x-should-retry" not in answer.headers
    assert error_response(TooManyRequests("x", pointless=True)).headers["x-should-retry"] == "false"
    assert "retry-after" not in error_response(TooManyRequests("x")).headers


def test_the_engines_kinds_are_the_classes_names() -> None:
    assert CLASSES["InvalidRequest"] is InvalidRequest
    assert set(CLASSES) == {c.__name__ for c in TABLE}
