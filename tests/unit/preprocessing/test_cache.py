"""The cache of tokens: whole or not there, of the right key, of bounded size, and no matter of which job wrote it."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from luthier.core.errors import JobFailure, StorageFull
from luthier.models import checkpoint as checkpoint_module
from luthier.models.checkpoint import MANIFEST_NAME, folder_bytes, is_temporary, manifest_sha256, publish_folder
from luthier.preprocessing import cache as cache_module
from luthier.preprocessing.cache import RESERVE_BYTES, CacheKey, TokenCache
from luthier.preprocessing.table import table_in_memory
from tests.support.token_rows import as_values, plain_row

ROWS = [plain_row(line, [line, 7, 8, 9][: 1 + line % 4]) for line in range(1, 40)]
SHA = "ab" * 32
KEY = CacheKey(sha256=SHA, options={"tokenizer": "t", "max_length": 64})
LARGE = 1 << 30


def _write(cache: TokenCache, key: CacheKey = KEY):
    return cache.write(key, [ROWS[:10], ROWS[10:]], lambda: {"num_skipped": 2}, vocab_size=300, file_id="file-A")


def _size_written(cache: TokenCache, root: Path, key: CacheKey) -> int:
    _write(cache, key)
    return folder_bytes(root / key.name)


def _aged(folder: Path, seconds: float) -> None:
    for path in (*folder.iterdir(), folder):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


@pytest.fixture
def cache(tmp_path):
    return TokenCache(tmp_path, max_bytes=LARGE)


def test_a_second_reader_finds_the_same_rows_under_its_own_name_of_the_file(cache):
    assert cache.read(KEY, "file-A") is None
    _write(cache)
    found = cache.read(KEY, "file-B")
    assert [as_values(e)[1:] for e in found.table] == [as_values(e)[1:] for e in ROWS]
    assert {e.source.file_id for e in found.table} == {"file-B"}
    assert found.notes == {"num_skipped": 2}


@pytest.mark.parametrize("options", [{"tokenizer": "u", "max_length": 64}, {"tokenizer": "t", "max_length": 65}, {"tokenizer": "t"}])
def test_other_options_and_other_files_are_other_tables(cache, options):
    _write(cache)
    assert cache.read(CacheKey(sha256=SHA, options=options), "file-A") is None
    assert cache.read(CacheKey(sha256="cd" * 32, options=KEY.options), "file-A") is None


def test_a_newer_format_does_not_read_an_older_one(cache, monkeypatch):
    _write(cache)
    monkeypatch.setattr(cache_module, "FORMAT_VERSION", 2)
    assert cache.read(KEY, "file-A") is None


def test_small_ids_take_two_bytes_a_token(cache, tmp_path):
    _write(cache)
    assert (tmp_path / KEY.name / "ids").stat().st_size == 2 * sum(e.num_tokens for e in ROWS)


@pytest.mark.parametrize("name", ["ids", "ends", "run_weights", "lines", MANIFEST_NAME])
@pytest.mark.parametrize("harm", ["short", "changed", "gone"])
def test_a_harmed_table_is_not_read_and_can_be_made_anew(cache, tmp_path, name, harm):
    _write(cache)
    path = tmp_path / KEY.name / name
    if harm == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "changed":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    assert cache.read(KEY, "file-A") is None
    _write(cache)
    assert [as_values(e) for e in cache.read(KEY, "file-A").table] == [as_values(e) for e in ROWS]


def test_a_folder_that_another_program_left_is_not_read(cache, tmp_path):
    (tmp_path / KEY.name).mkdir()
    (tmp_path / KEY.name / "notes.txt").write_text("hello")
    assert cache.read(KEY, "file-A") is None
    _write(cache)
    assert cache.read(KEY, "file-A") is not None


def test_a_failure_while_the_rows_come_leaves_nothing(cache, tmp_path):
    def rows():
        yield ROWS[:5]
        raise JobFailure("Example 6 cannot be written.", code="invalid_training_file")

    with pytest.raises(JobFailure):
        cache.write(KEY, rows(), dict, vocab_size=300, file_id="file-A")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_little_room_is_left_alone(tmp_path):
    free = iter([RESERVE_BYTES, RESERVE_BYTES - 1])
    cache = TokenCache(tmp_path, max_bytes=LARGE, free_bytes=lambda _: next(free))
    with pytest.raises(StorageFull, match="512 MiB"):
        _write(cache)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_table_do_not_disturb_each_other(cache, tmp_path):
    barrier, found = threading.Barrier(2), []

    def rows():
        yield ROWS[:10]
        barrier.wait(timeout=60)  # both are in the middle of writing now
        yield ROWS[10:]

    def write():
        found.append(cache.write(KEY, rows(), lambda: {"num_skipped": 2}, vocab_size=300, file_id="file-A"))

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [as_values(e) for e in ROWS]
    assert [[as_values(e) for e in stored.table] for stored in found] == [expected, expected]
    assert [path.name for path in tmp_path.iterdir()] == [KEY.name]


@pytest.mark.parametrize("moment", ["before the name is looked for", "between the look and the rename"])
def test_the_first_of_two_writers_keeps_the_name_and_both_their_rows(cache, tmp_path, monkeypatch, moment):
    first = []

    def rows():
        yield ROWS[:10]
        if moment.startswith("before"):
            first.append((_write(cache), (tmp_path / KEY.name).stat().st_ino))
        yield ROWS[10:]

    if moment.startswith("between"):
        rename = Path.rename

        def late(path, target):
            if not first:
                first.append(None)  # the writer that is let in between renames as well
                first[0] = (_write(cache), (tmp_path / KEY.name).stat().st_ino)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", late)
    second = cache.write(KEY, rows(), lambda: {"num_skipped": 2}, vocab_size=300, file_id="file-A")
    ((stored, number),) = first
    expected = [as_values(e) for e in ROWS]
    assert [[as_values(e) for e in table] for table in (stored.table, second.table)] == [expected, expected]
    assert ([path.name for path in tmp_path.iterdir()], (tmp_path / KEY.name).stat().st_ino) == ([KEY.name], number)


def test_a_table_that_another_job_removes_at_once_is_still_its_writers(cache, tmp_path, monkeypatch):
    def publish(*args, **kwargs):
        publish_folder(*args, **kwargs)
        assert TokenCache(tmp_path, max_bytes=0).trim() == 1  # before the writer has done anything more

    monkeypatch.setattr(cache_module, "publish_folder", publish)
    assert [as_values(e) for e in _write(cache).table] == [as_values(e) for e in ROWS]
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_another_job_removes_while_ours_is_compared_with_it_costs_nothing(cache, tmp_path, monkeypatch):
    def gone(folder):
        shutil.rmtree(folder)
        return manifest_sha256(folder)

    _write(cache)
    monkeypatch.setattr(checkpoint_module, "manifest_sha256", gone)
    assert [as_values(e) for e in _write(cache).table] == [as_values(e) for e in ROWS]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_while_the_folder_gets_its_name_is_an_error(cache, tmp_path, monkeypatch):
    def fail(path, target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        _write(cache)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_keeps_its_table_when_it_is_removed(cache, tmp_path):
    stored = _write(cache)
    assert TokenCache(tmp_path, max_bytes=0).trim() == 1
    assert list(tmp_path.iterdir()) == []
    assert [as_values(e) for e in stored.table] == [as_values(e) for e in ROWS]


def test_the_least_recently_used_tables_go_first(cache, tmp_path):
    keys = [CacheKey(sha256=SHA, options={"max_length": n}) for n in range(3)]
    sizes = [_size_written(cache, tmp_path, key) for key in keys]
    for age, key in zip((300, 200, 100), keys, strict=True):
        _aged(tmp_path / key.name, age)
    assert cache.read(keys[0], "file-A") is not None  # used now
    small = TokenCache(tmp_path, max_bytes=sizes[0] + sizes[2])
    assert small.trim() == 1
    assert [small.read(key, "file-A") is not None for key in keys] == [True, False, True]


def test_a_new_table_pushes_old_ones_out_and_stays_itself(tmp_path):
    size = _size_written(TokenCache(tmp_path, max_bytes=LARGE), tmp_path, CacheKey(sha256=SHA, options={}))
    tight = TokenCache(tmp_path, max_bytes=size // 2)
    _write(tight)
    assert [path.name for path in tmp_path.iterdir()] == [KEY.name]


def test_tables_of_deleted_files_are_removed(cache, tmp_path):
    other = CacheKey(sha256="cd" * 32, options={})
    _write(cache)
    _write(cache, other)
    assert cache.trim(files={SHA}) == 1
    assert [path.name for path in tmp_path.iterdir()] == [KEY.name]


_ENDLESS = """
import sys
from itertools import count
from pathlib import Path
from luthier.preprocessing.cache import CacheKey, TokenCache
from tests.support.token_rows import plain_row

def rows():
    for line in count(1):
        yield [plain_row(line, list(range(200)))] * 50
        print(line, flush=True)

TokenCache(Path(sys.argv[1]), max_bytes=1 << 30).write(
    CacheKey(sha256="ab" * 32, options={"tokenizer": "t", "max_length": 64}), rows(), dict, vocab_size=300, file_id="file-A")
"""


def test_a_kill_in_the_middle_of_writing_leaves_nothing_that_is_read(cache, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(20):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    left = list(tmp_path.iterdir())
    assert [is_temporary(path) for path in left] == [True]
    assert sum(p.stat().st_size for p in left[0].iterdir()) > 0
    assert cache.read(KEY, "file-A") is None
    _write(cache)
    assert len(cache.read(KEY, "file-A").table) == len(ROWS)
    # What the kill left may belong to a writer that lives, until it is old.
    assert cache.trim() == 0
    _aged(left[0], 7200)
    assert cache.trim() == 1
    assert [path.name for path in tmp_path.iterdir()] == [KEY.name]


def test_a_table_can_be_indexed_like_a_tuple():
    table = table_in_memory("file-A", [ROWS])
    assert as_values(table[-1]) == as_values(ROWS[-1])
    assert [as_values(e) for e in table[2:6:2]] == [as_values(e) for e in ROWS[2:6:2]]
    with pytest.raises(IndexError):
        table[len(ROWS)]


def test_an_id_that_the_model_does_not_have_is_never_cut_to_fit(cache):
    rows = count(1)
    with pytest.raises(AssertionError, match="does not have"):
        cache.write(KEY, [[plain_row(next(rows), [1, 70_000])]], dict, vocab_size=300, file_id="file-A")
