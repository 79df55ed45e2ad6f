"""Uploads in parts with the official client: from the first part to a fine-tuning job on the file."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import openai
import pytest
from openai.types import Upload

from luthier.api.assembly import complete_upload
from luthier.core.ids import new_upload_id
from luthier.core.uploads import PartRecord, UploadRecord
from luthier.storage.uploads import UploadStore
from tests.support.api_server import KEY, ApiServer


def begin(client: openai.OpenAI, size: int, **changes: object) -> Upload:
    """A pending upload of a fine-tuning file."""
    values = {"bytes": size, "filename": "train.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune", **changes}
    return client.uploads.create(**values)  # type: ignore[arg-type]


def add(client: openai.OpenAI, upload: Upload, *pieces: bytes) -> list[str]:
    return [client.uploads.parts.create(upload.id, data=piece).id for piece in pieces]


def part_files(server: ApiServer) -> set[Path]:
    return set(server.services.settings.uploads_dir.glob("*"))


@pytest.fixture
def new_parts(server: ApiServer) -> Callable[[], int]:
    """How many parts lie on the disk that were not there when the test began."""
    before = part_files(server)
    return lambda: len(part_files(server) - before)


def expire(server: ApiServer, *, size: int = 8) -> str:
    """An upload whose hour is over."""
    record = UploadRecord(
        id=new_upload_id(),
        filename="old.jsonl",
        purpose="fine-tune",
        bytes=size,
        mime_type="text/jsonl",
        created_at=1,
        expires_at=3601,
    )
    server.services.uploads.add(record)
    return record.id


def test_parts_become_a_file_that_a_job_takes(client: openai.OpenAI, rows: bytes, new_parts: Callable[[], int]) -> None:
    upload = begin(client, len(rows))
    assert (upload.object, upload.status, upload.file, upload.purpose) == ("upload", "pending", None, "fine-tune")
    assert (upload.bytes, upload.filename, upload.expires_at) == (len(rows), "train.jsonl", upload.created_at + 3600)
    assert len(upload.id) == len("upload_") + 32
    part = client.uploads.parts.create(upload.id, data=rows[:100])
    assert (part.object, part.upload_id, part.id[:5]) == ("upload.part", upload.id, "part_")
    done = client.uploads.complete(upload.id, part_ids=[part.id, *add(client, upload, rows[100:])])
    assert (done.id, done.status) == (upload.id, "completed")
    assert done.file is not None
    assert (done.file.bytes, done.file.filename, done.file.purpose) == (len(rows), "train.jsonl", "fine-tune")
    assert (done.file.status, done.file.expires_at) == ("processed", None)
    assert client.files.retrieve(done.file.id) == done.file
    assert client.files.content(done.file.id).read() == rows
    job = client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=done.file.id)
    assert job.training_file == done.file.id
    assert new_parts() == 0


def test_the_chunked_helper_from_a_path_and_from_memory(client: openai.OpenAI, rows: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(rows)
    md5 = hashlib.md5(rows, usedforsecurity=False).hexdigest()
    done = client.uploads.upload_file_chunked(file=path, mime_type="text/jsonl", purpose="fine-tune", part_size=300, md5=md5)
    assert done.file is not None
    assert client.files.content(done.file.id).read() == rows
    done = client.uploads.upload_file_chunked(
        file=rows, filename="m.jsonl", bytes=len(rows), mime_type="application/jsonl", purpose="fine-tune", part_size=299
    )
    assert done.file is not None
    assert client.files.content(done.file.id).read() == rows


async def by_async_client(server: ApiServer, rows: bytes) -> tuple[bytes, bytes, str]:
    """The content of a chunked upload, that of one whose parts went in at once, and the job on it."""
    async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0, _strict_response_validation=True) as client:
        done = await client.uploads.upload_file_chunked(
            file=rows, filename="a.jsonl", bytes=len(rows), mime_type="text/jsonl", purpose="fine-tune", part_size=400
        )
        upload = await client.uploads.create(bytes=len(rows), filename="p.jsonl", mime_type="text/jsonl", purpose="fine-tune")
        pieces = [rows[i : i + 90] for i in range(0, len(rows), 90)]
        parts = await asyncio.gather(*(client.uploads.parts.create(upload.id, data=piece) for piece in pieces))
        whole = await client.uploads.complete(upload.id, part_ids=[part.id for part in parts])
        assert done.file is not None
        assert whole.file is not None
        job = await client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=whole.file.id)
        first, second = await client.files.content(done.file.id), await client.files.content(whole.file.id)
        cancelled = await client.uploads.create(bytes=1, filename="p.jsonl", mime_type="text/jsonl", purpose="fine-tune")
        assert (await client.uploads.cancel(cancelled.id)).status == "cancelled"
        return first.read(), second.read(), job.training_file


def test_async_and_parallel(server: ApiServer, rows: bytes) -> None:
    first, second, training_file = asyncio.run(by_async_client(server, rows))
    assert (first, second) == (rows, rows)
    assert training_file.startswith("file-")


def test_part_ids_decide_the_order_and_what_belongs(client: openai.OpenAI, new_parts: Callable[[], int]) -> None:
    upload = begin(client, 6, purpose="assistants", filename="x.txt", mime_type="text/plain")
    last, first, _unused = add(client, upload, b"def", b"abc", b"never mind")
    done = client.uploads.complete(upload.id, part_ids=[first, last])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"abcdef"
    assert new_parts() == 0


def test_complete_twice_answers_the_same_and_otherwise_not(client: openai.OpenAI, rows: bytes) -> None:
    upload = begin(client, len(rows))
    parts = add(client, upload, rows[:50], rows[50:])
    done = client.uploads.complete(upload.id, part_ids=parts)
    md5 = hashlib.md5(rows, usedforsecurity=False).hexdigest().upper()
    assert client.uploads.complete(upload.id, part_ids=parts) == done
    assert client.uploads.complete(upload.id, part_ids=parts, md5=md5) == done
    for part_ids in (parts[::-1], parts[:1]):
        with pytest.raises(openai.BadRequestError, match=f"Upload {upload.id} is completed"):
            client.uploads.complete(upload.id, part_ids=part_ids)
    with pytest.raises(openai.BadRequestError, match="is completed"):
        client.uploads.complete(upload.id, part_ids=parts, md5="0" * 32)
    with pytest.raises(openai.BadRequestError, match="is completed"):
        client.uploads.cancel(upload.id)


def test_one_file_from_completions_sent_at_once(server: ApiServer, rows: bytes) -> None:
    client = server.client()
    upload = begin(client, len(rows))
    parts = add(client, upload, *(rows[i : i + 40] for i in range(0, len(rows), 40)))

    async def race() -> set[str]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key=KEY, max_retries=0) as racer:
            answers = await asyncio.gather(*(racer.uploads.complete(upload.id, part_ids=parts) for _ in range(6)))
        return {answer.file.id for answer in answers if answer.file is not None}

    (file_id,) = asyncio.run(race())
    assert client.files.content(file_id).read() == rows


@pytest.mark.parametrize("size", [99, 101])
def test_a_wrong_total_is_refused_and_can_be_mended(client: openai.OpenAI, size: int) -> None:
    upload = begin(client, size, purpose="vision", filename="x.png", mime_type="image/png")
    parts = add(client, upload, b"x" * 100)
    with pytest.raises(openai.BadRequestError, match=f"hold 100 bytes together, but upload {upload.id} was created for {size} bytes"):
        client.uploads.complete(upload.id, part_ids=parts)
    parts = add(client, upload, b"x" * size)
    assert client.uploads.complete(upload.id, part_ids=parts).status == "completed"


def test_a_wrong_checksum_is_refused_and_leaves_no_file(client: openai.OpenAI, server: ApiServer, rows: bytes) -> None:
    before = [file.id for file in client.files.list()]
    upload = begin(client, len(rows))
    parts = add(client, upload, rows)
    with pytest.raises(openai.BadRequestError) as error:
        client.uploads.complete(upload.id, part_ids=parts, md5="0" * 32)
    assert error.value.param == "md5"
    assert [file.id for file in client.files.list()] == before
    assert list(server.services.blobs.temporary_folder().iterdir()) == []
    assert client.uploads.complete(upload.id, part_ids=parts).status == "completed"


def test_what_is_not_jsonl_is_refused_across_the_seams_of_parts(client: openai.OpenAI) -> None:
    good, bad = [b'{"a"', b': 1}\n{"b": 2}'], [b'{"a": 1}\n{"b', b'": 2]\n', b"x"]
    for pieces in (good, bad):
        upload = begin(client, sum(map(len, pieces)))
        parts = add(client, upload, *pieces)
        if pieces is good:
            assert client.uploads.complete(upload.id, part_ids=parts).status == "completed"
            continue
        with pytest.raises(openai.BadRequestError, match=r"Expected file to have JSONL format.*Line 2 is not a dictionary"):
            client.uploads.complete(upload.id, part_ids=parts)


def test_unknown_and_repeated_parts_are_refused(client: openai.OpenAI) -> None:
    upload, other = begin(client, 4), begin(client, 4)
    (mine,), (foreign,) = add(client, upload, b"{}"), add(client, other, b"{}")
    for part_ids, text in (([mine, mine], "named twice"), ([mine, foreign], "is not a part of"), ([mine, "part_x"], "is not a part of")):
        with pytest.raises(openai.BadRequestError, match=text) as error:
            client.uploads.complete(upload.id, part_ids=part_ids)
        assert (error.value.code, error.value.param) == ("invalid_value", "part_ids[1]")
    with pytest.raises(openai.BadRequestError) as error:
        client.uploads.complete(upload.id, part_ids=[])
    assert error.value.code == "array_below_min_length"


def test_a_cancelled_upload_takes_nothing_more(client: openai.OpenAI, new_parts: Callable[[], int]) -> None:
    upload = begin(client, 2)
    parts = add(client, upload, b"{}")
    assert new_parts() == 1
    assert client.uploads.cancel(upload.id).status == "cancelled"
    assert new_parts() == 0
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled: it takes no parts"):
        client.uploads.parts.create(upload.id, data=b"x" * 3_000_000)
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.complete(upload.id, part_ids=parts)
    assert new_parts() == 0


def test_an_expired_upload_says_so(client: openai.OpenAI, server: ApiServer) -> None:
    upload_id = expire(server)
    with pytest.raises(openai.BadRequestError, match="is expired: it takes no parts"):
        client.uploads.parts.create(upload_id, data=b"{}")
    with pytest.raises(openai.BadRequestError, match="is expired"):
        client.uploads.complete(upload_id, part_ids=["part_1"])
    assert client.uploads.cancel(upload_id).status == "expired"


def test_an_unknown_upload_is_not_found(client: openai.OpenAI) -> None:
    calls = (
        lambda: client.uploads.parts.create("upload_nothing", data=b"{}"),
        lambda: client.uploads.complete("upload_nothing", part_ids=["part_1"]),
        lambda: client.uploads.cancel("upload_nothing"),
    )
    for call in calls:
        with pytest.raises(openai.NotFoundError, match="No such Upload object: upload_nothing") as error:
            call()
        assert error.value.param == "id"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"purpose": "user_data"}, "invalid_value", "purpose"),
        ({"bytes": 0}, "integer_below_min_value", "bytes"),
        ({"bytes": 8 * 1024**3 + 1}, "integer_above_max_value", "bytes"),
        ({"bytes": 200 * 1024**2 + 1, "purpose": "batch"}, "integer_above_max_value", "bytes"),
        ({"bytes": "8"}, "invalid_type", "bytes"),
        ({"filename": "train.csv"}, None, "filename"),
        ({"filename": ""}, "string_below_min_length", "filename"),
        ({"mime_type": None}, "invalid_type", "mime_type"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "integer_below_min_value", "expires_after.seconds"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "invalid_value", "expires_after.anchor"),
        ({"extra_body": {"colour": "red"}}, "unknown_parameter", "colour"),
    ],
)
def test_bad_creations_are_refused(client: openai.OpenAI, changes: dict[str, object], code: str | None, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        begin(client, 100, **changes)
    assert (error.value.code, error.value.param) == (code, param)


def test_a_missing_field_is_named(server: ApiServer) -> None:
    with server.http() as http:
        answer = http.post("/v1/uploads", json={"bytes": 1, "filename": "a.jsonl", "purpose": "fine-tune"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "Missing required parameter: 'mime_type'."


def test_an_upload_as_large_as_the_limit_may_begin(client: openai.OpenAI) -> None:
    assert begin(client, 8 * 1024**3).bytes == 8 * 1024**3


def test_the_expiry_goes_to_the_file(client: openai.OpenAI) -> None:
    upload = begin(client, 2, expires_after={"anchor": "created_at", "seconds": 7200})
    done = client.uploads.complete(upload.id, part_ids=add(client, upload, b"{}"))
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 7200
    batch = begin(client, 2, purpose="batch")
    done = client.uploads.complete(batch.id, part_ids=add(client, batch, b"{}"))
    assert done.file is not None
    assert done.file.expires_at == done.file.created_at + 2592000


def test_the_file_of_a_completed_upload_may_be_deleted(client: openai.OpenAI) -> None:
    upload = begin(client, 2)
    parts = add(client, upload, b"{}")
    done = client.uploads.complete(upload.id, part_ids=parts)
    assert done.file is not None
    client.files.delete(done.file.id)
    again = client.uploads.complete(upload.id, part_ids=parts)
    assert (again.status, again.file) == ("completed", None)


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        (b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n', "unknown_parameter", "x"),
        (b"--b--\r\n", "missing_required_parameter", "data"),
        (b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n\r\n--b--\r\n', None, "data"),
        (b'--b\r\nContent-Disposition: form-data; name="data"; filename="upload"\r\n\r\ncut', None, None),
    ],
    ids=["unknown field", "nothing", "empty", "cut"],
)
def test_malformed_parts_are_400_and_leave_nothing(
    server: ApiServer, form: bytes, code: str | None, param: str | None, new_parts: Callable[[], int]
) -> None:
    upload = begin(server.client(), 1)
    with server.http() as http:
        answer = http.post(f"/v1/uploads/{upload.id}/parts", content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)
    assert new_parts() == 0


def test_data_without_a_filename_is_taken(server: ApiServer) -> None:
    """What ``curl -F data=...`` sends."""
    upload = begin(server.client(), 2)
    form = b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{}\r\n--b--\r\n'
    with server.http() as http:
        part = http.post(f"/v1/uploads/{upload.id}/parts", content=form, headers={"content-type": "multipart/form-data; boundary=b"})
    assert server.client().uploads.complete(upload.id, part_ids=[part.json()["id"]]).status == "completed"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("small") / "data", max_upload_bytes=5_000_000, max_part_bytes=2_000_000, max_line_bytes=1000)
    yield server
    server.stop()


def test_a_part_over_the_limit_is_413_and_leaves_nothing(small: ApiServer) -> None:
    client = small.client()
    upload = begin(client, 5_000_000, purpose="assistants", filename="x.txt")
    add(client, upload, b"x" * 2_000_000)
    with pytest.raises(openai.APIStatusError, match="The maximum is 2000000 bytes") as error:
        client.uploads.parts.create(upload.id, data=b"x" * 2_000_001)
    assert (error.value.status_code, error.value.response.headers["x-should-retry"]) == (413, "false")
    assert len(part_files(small)) == 1
    client.uploads.cancel(upload.id)


def test_all_parts_together_have_a_limit(small: ApiServer) -> None:
    client = small.client()
    upload = begin(client, 5_000_000, purpose="assistants", filename="x.txt")
    parts = add(client, upload, b"a" * 2_000_000, b"b" * 2_000_000)
    with pytest.raises(openai.BadRequestError, match="more than the maximum of 5000000 bytes"):
        add(client, upload, b"c" * 1_000_001)
    parts += add(client, upload, b"d" * 1_000_000)
    assert len(part_files(small)) == 3
    assert client.uploads.complete(upload.id, part_ids=parts).status == "completed"


def test_a_line_over_the_limit_is_refused(small: ApiServer) -> None:
    client = small.client()
    data = b'{"a": "' + b"x" * 1_500_000 + b'"}'
    upload = begin(client, len(data))
    with pytest.raises(openai.BadRequestError, match="Line 1 is longer than the maximum of 1000 bytes"):
        client.uploads.complete(upload.id, part_ids=add(client, upload, data))


def test_a_completion_that_is_overtaken_by_its_twin_answers_with_the_twins_file(
    server: ApiServer, client: openai.OpenAI, rows: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = begin(client, len(rows))
    parts = add(client, upload, rows)
    genuine = UploadStore.parts
    quicker: list[UploadRecord] = []

    def overtaken(self: UploadStore, upload_id: str, part_ids: Sequence[str]) -> tuple[PartRecord, ...]:
        if not quicker:
            monkeypatch.setattr(UploadStore, "parts", genuine)
            quicker.append(complete_upload(server.services, upload_id, part_ids, None))
        return genuine(self, upload_id, part_ids)

    monkeypatch.setattr(UploadStore, "parts", overtaken)
    file = client.uploads.complete(upload.id, part_ids=parts).file
    assert file is not None
    assert file.id == quicker[0].file_id
