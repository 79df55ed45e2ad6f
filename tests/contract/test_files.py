import base64
import gzip
import json
from typing import Any

import openai
import pytest

from luthier.core.ids import new_file_id
from luthier.core.jobs import FileRecord
from tests.support.api_server import ApiServer

NOT_JSONL = (
    'Expected file to have JSONL format, where every line is a JSON dictionary. Line {} is not a dictionary (HINT: line starts with: "'
)


def test_a_file_goes_in_and_comes_back(client: openai.OpenAI, rows: bytes) -> None:
    created = client.files.create(file=("train.jsonl", rows), purpose="fine-tune")
    assert created.id.startswith("file-")
    assert len(created.id) == len("file-") + 22
    assert (created.object, created.bytes, created.filename) == ("file", len(rows), "train.jsonl")
    assert (created.purpose, created.status) == ("fine-tune", "processed")
    assert client.files.retrieve(created.id) == created
    content = client.files.content(created.id)
    assert content.read() == rows
    assert "attachment" in content.response.headers["content-disposition"]
    assert client.files.wait_for_processing(created.id).status == "processed"


def test_a_deleted_file_is_gone(client: openai.OpenAI, rows: bytes) -> None:
    created = client.files.create(file=rows, purpose="fine-tune")
    deleted = client.files.delete(created.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (created.id, True, "file")
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as error:
            call(created.id)
        assert error.value.param == "id"
        assert f"No such File object: {created.id}" in error.value.message


def test_the_client_pages_through_all_files(client: openai.OpenAI, rows: bytes) -> None:
    ids = [client.files.create(file=rows, purpose="user_data").id for _ in range(3)]
    listed = [f.id for f in client.files.list(purpose="user_data", limit=2)]
    assert listed[:3] == ids[::-1]
    oldest_first = [f.id for f in client.files.list(purpose="user_data", limit=2, order="asc")]
    assert oldest_first == listed[::-1]


def test_the_list_envelope_has_cursors(server: ApiServer, rows: bytes) -> None:
    ids = [server.client().files.create(file=rows, purpose="vision").id for _ in range(2)]
    with server.http() as http:
        page = http.get("/v1/files?purpose=vision&limit=1").json()
    assert (page["object"], page["has_more"]) == ("list", True)
    assert page["first_id"] == page["last_id"] == ids[1]


def test_an_unknown_cursor_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as error:
        client.files.list(after="file-nothing")
    assert error.value.param == "after"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'{"a": 1}\n[1, 2]\n', 2),
        (b"hello\n", 1),
        (b'{\n  "a": 1\n}\n', 1),
        (b'{"a": 1}\n\n{"a": 2}\n', 2),
        (b'{"a": NaN}\n', 1),
        (b'{"a": "\xff"}\n', 1),
        ('{"a": 1}\n'.encode("utf-16"), 1),
        (b'{"a":' * 2000 + b"1" + b"}" * 2000, 1),
        (b'{"a": "\\ud800"}\n', 1),
    ],
)
def test_what_is_not_jsonl_is_refused_in_openais_words(client: openai.OpenAI, data: bytes, line: int) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.files.create(file=("x.jsonl", data), purpose="fine-tune")
    assert NOT_JSONL.format(line) in error.value.message
    assert error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\r\n{"a": 2}\r\n',
        b'{"a": 1}\n{"a": 2}\n\n',
        b'{"a": 1}\n{"a": 2}',
        json.dumps({"a": "one\u2028two\u0085three\x1c"}, ensure_ascii=False).encode() + b"\n",
    ],
    ids=["bom", "crlf", "blank last line", "no last newline", "unicode line separators"],
)
def test_harmless_variants_of_jsonl_are_taken_as_they_are(client: openai.OpenAI, data: bytes) -> None:
    created = client.files.create(file=("x.jsonl", data), purpose="fine-tune")
    assert client.files.content(created.id).read() == data


def test_a_fault_late_in_a_large_file_is_found(client: openai.OpenAI) -> None:
    row = b'{"messages": [{"role": "user", "content": "' + b"x" * 950 + b'"}]}\n'
    sound = client.files.create(file=("a.jsonl", row * 7000), purpose="fine-tune")
    assert sound.bytes == len(row) * 7000
    with pytest.raises(openai.BadRequestError, match="Line 7001 is not a dictionary"):
        client.files.create(file=("a.jsonl", row * 7000 + b"[]\n" + row), purpose="fine-tune")
    assert client.files.list(limit=1).data[0].id == sound.id


def test_other_purposes_are_not_checked(client: openai.OpenAI) -> None:
    assert client.files.create(file=b"anything", purpose="user_data").bytes == 8


def test_the_file_may_come_before_the_purpose(server: ApiServer) -> None:
    with server.http() as http:
        bad = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nhello\r\n--b\r\n'
        bad += b'Content-Disposition: form-data; name="purpose"\r\n\r\n%s\r\n--b--\r\n'
        headers = {"content-type": "multipart/form-data; boundary=b"}
        refused = http.post("/v1/files", content=bad % b"fine-tune", headers=headers)
        taken = http.post("/v1/files", content=bad % b"user_data", headers=headers)
    assert (refused.status_code, taken.status_code) == (400, 200)
    assert "Line 1 is not a dictionary" in refused.json()["error"]["message"]


def test_a_wrong_purpose_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.files.create(file=b"{}", purpose="foo")  # type: ignore[arg-type]
    assert "'foo' is not one of [" in error.value.message
    assert "] - 'purpose'" in error.value.message
    assert error.value.param == "purpose"


def test_an_empty_file_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.files.create(file=("x.jsonl", b""), purpose="fine-tune")
    assert error.value.param == "file"


def test_a_refused_upload_leaves_nothing(server: ApiServer) -> None:
    def stored() -> int:
        return sum(1 for p in server.services.settings.blobs_dir.rglob("*") if p.is_file())

    before = stored()
    with pytest.raises(openai.BadRequestError):
        server.client().files.create(file=b"no json", purpose="fine-tune")
    assert stored() == before


def test_an_expiry_is_kept(client: openai.OpenAI, rows: bytes) -> None:
    for seconds in (3600, 2592000):
        created = client.files.create(file=rows, purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": seconds})
        assert created.expires_at == created.created_at + seconds
    batch = client.files.create(file=rows, purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    assert batch.expires_at == batch.created_at + 3600


def test_batch_files_expire_after_thirty_days_and_others_never(client: openai.OpenAI, rows: bytes) -> None:
    batch = client.files.create(file=("b.jsonl", rows), purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 24 * 3600
    assert client.files.create(file=rows, purpose="user_data").expires_at is None


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        (
            {"anchor": "created_at", "seconds": "3599"},
            "integer_below_min_value",
            "Invalid 'expires_after.seconds': integer below minimum value. Expected a value >= 3600, but got 3599 instead.",
        ),
        (
            {"anchor": "created_at", "seconds": "2592001"},
            "integer_above_max_value",
            "Invalid 'expires_after.seconds': integer above maximum value. Expected a value <= 2592000, but got 2592001 instead.",
        ),
        (
            {"anchor": "created_at", "seconds": "1e4"},
            "invalid_type",
            "Invalid type for 'expires_after.seconds': expected an integer, but got a string instead.",
        ),
        ({"anchor": "created_at"}, "missing_required_parameter", "Missing required parameter: 'expires_after.seconds'."),
        ({"seconds": "3600"}, "missing_required_parameter", "Missing required parameter: 'expires_after.anchor'."),
        ({"anchor": "now", "seconds": "3600"}, "invalid_value", "Invalid value: 'now'. Supported values are: 'created_at'."),
        ({"anchor": "created_at", "seconds": "3600", "x": "1"}, "unknown_parameter", "Unknown parameter: 'expires_after[x]'."),
    ],
)
def test_a_wrong_expiry_is_refused(server: ApiServer, fields: dict[str, str], code: str, message: str) -> None:
    data = {"purpose": "fine-tune", **{f"expires_after[{name}]": value for name, value in fields.items()}}
    with server.http() as http:
        answer = http.post("/v1/files", data=data, files={"file": ("a.jsonl", b"{}")})
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["message"]) == (code, message)


def test_an_expired_file_is_gone_everywhere(client: openai.OpenAI, server: ApiServer, rows: bytes) -> None:
    sha256, size = server.services.blobs.put(rows)
    expired = FileRecord(
        id=new_file_id(), filename="old.jsonl", purpose="fine-tune", bytes=size, sha256=sha256, created_at=1, expires_at=3601
    )
    server.services.files.add(expired)
    newer = client.files.create(file=rows, purpose="fine-tune")
    assert expired.id not in [file.id for file in client.files.list()]
    assert next(iter(client.files.list(after=expired.id, order="asc"))).id == newer.id
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {expired.id}"):
            call(expired.id)
    with pytest.raises(openai.BadRequestError, match=f"invalid training_file: {expired.id}"):
        client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=expired.id)


@pytest.mark.parametrize(("purpose", "api"), [("fine-tune", "Fine-Tuning"), ("batch", "Batch")])
def test_jsonl_files_must_be_named_so(client: openai.OpenAI, rows: bytes, purpose: Any, api: str) -> None:
    for name in ("train.json", "train.jsonl.txt"):
        with pytest.raises(openai.BadRequestError, match=f"Invalid file format for {api} API. Must be .jsonl"):
            client.files.create(file=(name, rows), purpose=purpose)
    for name in ("train.JSONL", "dir.d/upload"):
        assert client.files.create(file=(name, rows), purpose=purpose).filename == name
    assert client.files.create(file=("train.csv", rows), purpose="user_data").bytes == len(rows)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("limit=0", "integer_below_min_value"),
        ("limit=10001", "integer_above_max_value"),
        ("limit=many", "invalid_type"),
        ("order=up", "invalid_value"),
    ],
)
def test_wrong_list_parameters_are_refused(server: ApiServer, query: str, code: str) -> None:
    with server.http() as http:
        answer = http.get(f"/v1/files?{query}")
        assert http.get("/v1/files?limit=10000&purpose=nothing-like-it").json()["data"] == []
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n",
        b"garbage",
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n',
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n' * 30 + b"--b--\r\n",
    ],
    ids=["cut", "garbage", "no file", "no name", "too many parts"],
)
def test_malformed_forms_are_400(server: ApiServer, body: bytes) -> None:
    with server.http() as http:
        answer = http.post("/v1/files", content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_only_multipart_is_taken(server: ApiServer) -> None:
    with server.http() as http:
        assert http.post("/v1/files", json={"purpose": "fine-tune"}).status_code == 400
        assert http.post("/v1/files", content=b"x", headers={"content-encoding": "gzip"}).status_code == 415


PACKED = {
    "gzip": gzip.compress(b"{}\n" * 20, mtime=0),
    "zip": b"PK\x03\x04" + b"\x00" * 40,
    "zstandard": b"\x28\xb5\x2f\xfd" + b"\n" * 40,
}


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_training_file_is_415_with_its_cure(server: ApiServer, kind: str) -> None:
    client = server.client()
    before = [file.id for file in client.files.list()]
    with pytest.raises(openai.APIStatusError) as error:
        client.files.create(file=("train.jsonl", PACKED[kind]), purpose="fine-tune")
    assert error.value.status_code == 415
    assert (error.value.code, error.value.param, error.value.type) == ("compressed_file", "file", "invalid_request_error")
    assert f"({kind})" in error.value.message
    assert "Unpack it first (" in error.value.message
    upload = client.uploads.create(bytes=len(PACKED[kind]), filename="t.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    part = client.uploads.parts.create(upload.id, data=PACKED[kind])
    with pytest.raises(openai.APIStatusError) as error:
        client.uploads.complete(upload.id, part_ids=[part.id])
    assert (error.value.status_code, error.value.code) == (415, "compressed_file")
    assert [file.id for file in client.files.list()] == before
    # What is only kept may be anything.
    kept = client.files.create(file=("train.jsonl.gz", PACKED[kind]), purpose="user_data")
    assert client.files.content(kept.id).read() == PACKED[kind]


def test_result_files_are_base64_unless_csv_is_asked_for(server: ApiServer) -> None:
    csv = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,1.5,0.0,,\n"
    sha256, size = server.services.blobs.put(csv)
    record = FileRecord(id=new_file_id(), filename="step_metrics.csv", purpose="fine-tune-results", bytes=size, sha256=sha256, created_at=1)
    server.services.files.add(record)
    client = server.client()
    assert base64.b64decode(client.files.content(record.id).read()) == csv
    assert client.files.content(record.id, extra_headers={"Accept": "text/csv"}).text == csv.decode()
    assert client.files.content(record.id, extra_query={"format": "csv"}).read() == csv
    for query in ({}, {"format": "csv"}):
        assert "attachment" in client.files.content(record.id, extra_query=query).response.headers["content-disposition"]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 196_607, 196_608, 400_000])
def test_result_files_of_any_size_are_encoded_as_one(server: ApiServer, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    sha256, _ = server.services.blobs.put(data)
    record = FileRecord(id=new_file_id(), filename="m.csv", purpose="fine-tune-results", bytes=size, sha256=sha256, created_at=1)
    server.services.files.add(record)
    assert server.client().files.content(record.id).read() == base64.b64encode(data)


def test_filenames_are_data_only(client: openai.OpenAI) -> None:
    created = client.files.create(file=("../../x\u202e\n.jsonl", b"{}"), purpose="fine-tune")
    assert client.files.content(created.id).read() == b"{}"
