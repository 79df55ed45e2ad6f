"""Collecting a whole file: the job's error codes and wording, all faults counted, memory flat."""

import hashlib
import tracemalloc

import orjson
import pytest

from luthier.core.examples import RowFormat, SourceLine
from luthier.data.stage import DataFailure, FileRole, collect


def _row(number: int = 0) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": f"q{number}"}, {"role": "assistant", "content": f"a{number}"}]})


def _collect(tmp_path, content: bytes, *, role: FileRole = "training", sha256=""):
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    return collect("file-A", path, role=role, max_line_bytes=10_000, sha256=sha256)


def _failure(tmp_path, content: bytes, *, role: FileRole = "training", sha256="") -> DataFailure:
    with pytest.raises(DataFailure) as caught:
        _collect(tmp_path, content, role=role, sha256=sha256)
    return caught.value


def test_ten_rows_become_a_data_set_with_lines_and_fingerprint(tmp_path):
    content = b"\n".join(_row(n) for n in range(10)) + b"\n\n"
    sha256 = hashlib.sha256(content).hexdigest()
    dataset = _collect(tmp_path, content, sha256=sha256)
    assert (dataset.row_format, dataset.num_lines, dataset.fingerprint) == (RowFormat.CHAT, 10, sha256)
    assert [e.source for e in dataset.examples] == [SourceLine("file-A", n) for n in range(1, 11)]


def test_nine_examples_are_refused_in_openais_words(tmp_path):
    failure = _failure(tmp_path, b"\n".join([_row()] * 9))
    assert failure.message == "Training file has 9 example(s), but must have at least 10 examples"
    assert (failure.code, failure.param) == ("invalid_n_examples", "training_file")


def test_an_empty_training_file_has_zero_examples(tmp_path):
    assert _failure(tmp_path, b"").message == "Training file has 0 example(s), but must have at least 10 examples"


def test_a_validation_file_needs_one_example_only(tmp_path):
    assert len(_collect(tmp_path, _row(), role="validation").examples) == 1
    failure = _failure(tmp_path, b"\n", role="validation")
    assert failure.message == "Validation file has 0 example(s), but must have at least 1 example"
    assert (failure.code, failure.param) == ("invalid_n_examples", "validation_file")


def test_a_format_fault_has_the_format_code(tmp_path):
    failure = _failure(tmp_path, b'{"messages": [], "x": 1}\n' + b"\n".join([_row()] * 12))
    assert failure.message == (
        'The job failed due to a file format error in the training file. Invalid file format. Example 1 contains an extra "x".'
    )
    assert (failure.code, failure.param) == ("invalid_file_format", "training_file")


@pytest.mark.parametrize("role", ["training", "validation"])
def test_a_message_fault_has_the_files_own_code(tmp_path, role):
    bad = orjson.dumps({"messages": [{"role": "user", "content": "q"}, {"content": "a"}]})
    failure = _failure(tmp_path, b"\n".join([_row()] * 99 + [bad]), role=role)
    assert failure.message == (
        f"The job failed due to an invalid {role} file. Invalid file format. "
        "Example 100, message 2 Discriminator 'role' is missing in value"
    )
    assert (failure.code, failure.param) == (f"invalid_{role}_file", f"{role}_file")


def test_the_first_fault_speaks_and_the_rest_is_counted(tmp_path):
    content = b"\n".join(b"nonsense" if n in (2, 5) else _row(n) for n in range(12))
    failure = _failure(tmp_path, content)
    assert "Example 3 " in failure.message
    assert (failure.num_faults, [f.source.line for f in failure.faults]) == (2, [3, 6])


def test_only_the_first_fifty_faults_are_kept_and_memory_stays_flat(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"\n".join([b"nonsense " * 100] * 10_000))
    tracemalloc.start()
    with pytest.raises(DataFailure) as caught:
        collect("file-A", path, role="training", max_line_bytes=10_000, sha256="")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(caught.value.faults), caught.value.num_faults) == (50, 10_000)
    assert peak < 1_000_000


def test_mixed_formats_are_a_fault(tmp_path):
    failure = _failure(tmp_path, b"\n".join([_row()] * 10 + [b'{"prompt": "a", "completion": "b"}']))
    assert failure.code == "invalid_file_format"
    assert "Example 11 is a prompt/completion row in a file of chat rows." in failure.message


def test_a_line_over_the_cap_is_a_fault(tmp_path):
    failure = _failure(tmp_path, b"\n".join([_row()] * 10) + b"\n" + b" " * 20_000)
    assert "Example 11 is longer than the limit of 10000 bytes for one line." in failure.message


def test_bytes_that_changed_since_the_upload_are_never_trained_on(tmp_path):
    failure = _failure(tmp_path, b"\n".join([_row()] * 10), sha256="0" * 64)
    assert "checksum" in failure.message
