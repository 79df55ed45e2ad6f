"""Import of Parquet files: what JSON has no form for, and cells that would fill the memory."""

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.import_rows import BadRows
from tests.support.importer import LIMIT, pair


def test_parquet_with_labels_by_number(imports):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}}
    table = arrow.table({"text": ["a", "b"], "label": [1, 0]}).replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, imports.folder / "a.parquet")
    imports.run(str(imports.folder / "a.parquet"))
    assert imports.talks() == [pair("a", "good"), pair("b", "bad")]
    imports.output.unlink()
    with pytest.raises(InvalidRequest, match="no Parquet file that can be read"):
        imports.run(imports.file("b.parquet", b"PAR1 and not more"))


def test_parquet_columns_that_json_has_no_form_for(imports):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"question": [b"caf\xc3\xa9", b"b"], "answer": [Decimal("1.50"), Decimal("2.00")], "picture": [b"\xff\xd8", b"\x89P"]}
    parquet.write_table(arrow.table(columns), imports.folder / "a.parquet")
    imports.run(str(imports.folder / "a.parquet"))
    assert imports.talks() == [pair("café", "1.50"), pair("b", "2.00")]
    imports.output.unlink()
    with pytest.raises(BadRows):
        imports.run(str(imports.folder / "a.parquet"), prompt="picture")
    assert "row 1: 'picture', the prompt, is empty." in imports.notes


def test_a_small_table_that_would_become_a_large_file_is_refused(imports):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    cells = arrow.DictionaryArray.from_arrays(arrow.array([0] * 1000, arrow.int32()), arrow.array(["x" * 10_000]))
    parquet.write_table(arrow.table({"question": cells, "answer": cells}), imports.folder / "a.parquet")
    assert (imports.folder / "a.parquet").stat().st_size < 10_000
    with pytest.raises(InvalidRequest, match="more than the maximum of 1,000,000 bytes; nothing was written"):
        imports.run(str(imports.folder / "a.parquet"), max_bytes=1_000_000)
    assert [path.name for path in imports.folder.iterdir()] == ["a.parquet"]


def _huge(path: Path, *, nested: bool, plain: bool) -> None:
    """A file of kilobytes, whose eight rows hold 48 MB each."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cell = "x" * (48 << 20)
    rows = [[{"role": "user", "content": cell}, {"role": "assistant", "content": "y"}]] if nested else [cell]
    column = arrow.array(rows)
    table = arrow.table({"messages": column} if nested else {"question": column, "answer": column})
    parquet.write_table(arrow.concat_tables([table] * 8), path, compression="zstd", use_dictionary=not plain)
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize(("nested", "plain"), [(False, False), (False, True), (True, False), (True, True)])
def test_rows_of_huge_cells_are_named_and_take_little_memory(tmp_path, nested, plain):
    _huge(tmp_path / "a.parquet", nested=nested, plain=plain)
    # Of its own memory: what getrusage calls the largest is that of the process that started it, where that was larger.
    measured = """
import json, pathlib, resource, sys
from luthier.data.sources import read_rows
rows = list(read_rows(pathlib.Path(sys.argv[1]), max_line_bytes=1 << 20))
status = pathlib.Path("/proc/self/status")
own = [int(line.split()[1]) << 10 for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
peak = own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([[(row.place, row.value, row.fault) for row in rows], peak]))
"""
    run = [sys.executable, "-c", measured, str(tmp_path / "a.parquet")]
    told, peak = json.loads(subprocess.run(run, capture_output=True, encoding="utf-8", check=True).stdout)
    what = "it" if nested else "its 'question'"
    assert told == [[f"row {number}", None, f"{what} is longer than {LIMIT} bytes."] for number in range(1, 9)]
    # All rows at once would be 800 MB as cells, and more than twice that as texts.
    assert peak < 1.2e9


def test_a_command_that_would_need_more_memory_than_an_import_may_take_says_so(tmp_path):
    _huge(tmp_path / "a.parquet", nested=False, plain=True)
    less = "import luthier.worker.prepare_data as process; process.IMPORT_MEMORY_BYTES = 128 << 20; process.main()"
    command = [sys.executable, "-c", less, "import", str(tmp_path / "a.parquet"), "--output", str(tmp_path / "o")]
    said = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout
    assert "needs more memory than an import may take" in json.loads(said.splitlines()[-1])["error"]["message"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
