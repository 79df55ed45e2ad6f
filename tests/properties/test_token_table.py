"""A table gives back every example as it was, however the rows came and wherever its columns lie."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.preprocessing.cache import CacheKey, TokenCache
from luthier.preprocessing.table import table_in_memory
from tests.support.token_rows import VOCABULARY, as_values, token_rows

ROWS = st.lists(token_rows(), max_size=12)
KEY = CacheKey(sha256="ab" * 32, options={"max_length": 64})


def _chunks(rows, size):
    return [rows[at : at + size] for at in range(0, len(rows), size)]


@settings(deadline=None)
@given(ROWS, st.integers(1, 5))
def test_what_went_in_comes_out_of_memory(rows, size):
    table = table_in_memory("file-A", _chunks(rows, size))
    assert [as_values(e) for e in table] == [as_values(e) for e in rows]
    assert table.lengths.tolist() == [e.num_tokens for e in rows]
    assert table.num_tokens == sum(e.num_tokens for e in rows)
    assert table.num_trained == sum(e.rendered.num_trained for e in rows)
    assert table.num_truncated == sum(e.truncated > 0 for e in rows)


@settings(deadline=None, max_examples=40)
@given(ROWS, st.integers(1, 5), st.sampled_from((VOCABULARY, 1 << 16, 1 << 32)))
def test_what_went_in_comes_out_of_the_cache(rows, size, vocab_size):
    with tempfile.TemporaryDirectory() as folder:
        cache = TokenCache(Path(folder), max_bytes=1 << 30)
        written = cache.write(KEY, _chunks(rows, size), lambda: {"n": len(rows)}, vocab_size=vocab_size, file_id="file-A")
        found = cache.read(KEY, "file-A")
        assert found is not None
        assert [as_values(e) for e in found.table] == [as_values(e) for e in written.table] == [as_values(e) for e in rows]
        assert found.notes == {"n": len(rows)}


@settings(deadline=None, max_examples=20)
@given(ROWS)
def test_how_rows_are_cut_into_chunks_changes_no_byte(rows):
    with tempfile.TemporaryDirectory() as folder:
        contents = []
        for size in (1, 3, 100):
            root = Path(folder, str(size))
            TokenCache(root, max_bytes=1 << 30).write(KEY, _chunks(rows, size), dict, vocab_size=VOCABULARY, file_id="file-A")
            contents.append({path.name: path.read_bytes() for path in (root / KEY.name).iterdir()})
        assert contents[0] == contents[1] == contents[2]


@settings(deadline=None)
@given(st.lists(token_rows(vocabulary=1 << 20), min_size=1, max_size=4))
def test_large_ids_are_kept_whole(rows):
    assert [as_values(e) for e in table_in_memory("file-A", [rows])] == [as_values(e) for e in rows]
    assert table_in_memory("file-A", [rows])[0].rendered.ids_T.dtype == np.int64
