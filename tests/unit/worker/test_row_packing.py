"""A whole file packed, and the places of its lines: what a page foretells of a job's packing."""

import json
from pathlib import Path

import numpy as np
import pytest

from luthier.core.errors import InvalidRequest
from luthier.data.stage import collect
from luthier.preprocessing.places import MAX_SHOWN_LINES, FilePlaces, pack_lines
from luthier.preprocessing.stage import prepare
from luthier.worker.row_packing import pack_file
from luthier.worker.row_preview import Reader, load_reader, preview_lines
from tests.support.tiny_models import mini_folder

CAP = 8 * 1024 * 1024
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "row_tokens"


@pytest.fixture(scope="module")
def reader() -> Reader:
    return load_reader(mini_folder(), asked_length=64)


def _rows(numbers: list[int]) -> list[str]:
    return [json.dumps({"prompt": f"say {n}", "completion": "word " * n}) for n in numbers]


def _packed(path: Path, reader: Reader) -> FilePlaces:
    return pack_file(path, reader, method=None, max_line_bytes=CAP)


def test_lengths_and_lines_are_those_of_a_job(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(_rows([(7 * n) % 40 + 1 for n in range(600)])) + "\n")
    packed = _packed(path, reader)
    dataset = collect("file", path, role="training", max_line_bytes=CAP, sha256="")
    prepared = prepare(dataset, reader.renderer, max_length=64, role="training")
    assert packed.packing.lengths_I.tolist() == prepared.lengths.tolist()
    assert packed.lines_I.tolist() == list(range(1, 601))
    assert packed.to_dict()["num_tokens"] == prepared.num_tokens


def test_lines_that_share_a_sequence_name_each_other_and_do_not_overlap(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(_rows([1, 30, 2, 3, 28, 1, 1])) + "\n")
    packed = _packed(path, reader)
    places = {line: packed.of_line(line)[0] for line in range(1, 8)}
    taken = np.zeros((packed.packing.num_rows, 64), dtype=int)
    for line, place in places.items():
        taken[place.sequence, place.start : place.end] += 1
        together = {other for other, there in places.items() if there.sequence == place.sequence and other != line}
        assert set(place.shared_with) == together
        assert place.num_shared_with == len(together)
    assert taken.max() == 1
    assert taken.sum() == packed.packing.num_tokens


def test_faulty_and_untrained_lines_are_left_out_and_counted(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "rows.jsonl"
    lost = json.dumps({"prompt": "a b " * 100, "completion": "c"})
    path.write_text("\n".join([*_rows([3, 4]), "no JSON", lost, *_rows([5])]) + "\n")
    packed = _packed(path, reader)
    assert packed.lines_I.tolist() == [1, 2, 5]
    assert packed.to_dict()["num_left_out"] == 2
    assert packed.of_line(3) == packed.of_line(4) == []
    shown = list(preview_lines(path, [5, 4, 3], reader, method=None, max_line_bytes=CAP, packed=packed))
    assert [[s["placement"] is not None for s in row["sequences"]] for row in shown] == [[True], [False], []]
    assert {row["packing"]["num_examples"] for row in shown} == {3}


def test_a_file_without_any_row_is_packed_to_nothing(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("[1, 2]\n")
    assert _packed(path, reader).to_dict() | {"num_left_out": 0} == {
        "capacity": 64,
        "num_sequences": 0,
        "num_examples": 0,
        "num_tokens": 0,
        "efficiency": 0.0,
        "num_left_out": 0,
    }


@pytest.mark.parametrize(("name", "method"), [("preference", None), ("reinforcement", "reinforcement")])
def test_only_supervised_rows_are_packed(name: str, method, reader: Reader) -> None:
    with pytest.raises(InvalidRequest, match=f"Only supervised rows are packed; {name}.jsonl has {name} rows"):
        pack_file(GOLDEN / f"{name}.jsonl", reader, method=method, max_line_bytes=CAP)


def test_of_many_lines_the_first_are_named() -> None:
    packed = pack_lines(range(1, 31), [1] * 30, 64, num_left_out=0)
    (place,) = packed.of_line(1)
    assert (len(place.shared_with), place.num_shared_with) == (MAX_SHOWN_LINES, 29)
