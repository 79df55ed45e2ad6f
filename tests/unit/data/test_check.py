"""A whole file is checked: what holds for its lines in their order, the traps of its bytes, and flat memory."""

import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from luthier.core.data_report import DataReport
from luthier.core.examples import Dataset, LineError
from luthier.data.check import FileRole, check_file
from luthier.data.stage import DataFailure, collect
from luthier.data.validate import Method

USER = {"role": "user", "content": "q"}
ROW = orjson.dumps({"messages": [USER, {"role": "assistant", "content": "a"}]})
BAD = orjson.dumps({"messages": [USER, {"content": "a"}]})
PREFERENCE = orjson.dumps(
    {
        "input": {"messages": [USER]},
        "preferred_output": [{"role": "assistant", "content": "a"}],
        "non_preferred_output": [{"role": "assistant", "content": "b"}],
    }
)
REINFORCEMENT = orjson.dumps({"messages": [USER], "reference_answer": "a", "extra": {"deep": [1]}})
CAP = 10_000


class Checked:
    """A report with its findings."""

    def __init__(self, path: Path, content: bytes, role: FileRole = "training", method: Method | None = None) -> None:
        path.write_bytes(content)
        self.findings: list[LineError] = []
        self.report: DataReport = check_file(path, role=role, method=method, max_line_bytes=CAP, on_finding=self.findings.append)

    @property
    def places(self) -> list[tuple[int, int, str]]:
        return [(f.source.line, f.column, f.rule) for f in self.findings]


def _collect(path: Path) -> Dataset:
    return collect("file-A", path, role="training", max_line_bytes=CAP, sha256="")


@pytest.fixture
def check(tmp_path: Path) -> Any:
    return lambda content, **options: Checked(tmp_path / "train.jsonl", content, **options)


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join([ROW] * 10),
        b"\n".join([ROW] * 10) + b"\n\n  \n",
        b"\r\n".join([ROW] * 10) + b"\r\n",
        b"\n".join([b" " + ROW + b"\t"] * 10),
        b"\n".join([ROW.replace(b'"q"', '"x\u2028y\u0085z\\u001c"'.encode())] * 10),
        b"\n".join([ROW.replace(b'"q"', '"\\u0000 \u202e \u200b \U0001f600"'.encode())] * 10),
    ],
    ids=["no last newline", "blank end", "crlf", "spaces", "unicode line ends", "odd characters"],
)
def test_a_sound_file_has_no_findings(check: Any, content: bytes) -> None:
    checked = check(content)
    assert checked.places == []
    assert (checked.report.counts["rows"], checked.report.error) == (10, None)


def test_all_faults_are_told_at_once_with_line_and_column(check: Any) -> None:
    checked = check(b"\n".join([ROW, BAD, b'{"a": NaN}', ROW, b'{"messages": []}']))
    assert checked.places == [(2, BAD.index(b'{"content":"a"') + 1, "missing_role"), (3, 7, "number_not_finite"), (5, 14, "bad_messages")]
    assert (checked.report.num_faults, checked.report.num_faulty_rows, checked.report.counts["rows"]) == (3, 3, 2)
    assert checked.report.by_code["missing_role"] == {"count": 1, "first_line": 2}


def test_several_faults_of_one_row_are_all_told(check: Any) -> None:
    row = orjson.dumps({"messages": [{"content": 1}, {"role": "x", "weight": 2, "mood": 1, "content": "a"}], "id": 1})
    assert [rule for _, _, rule in check(row).places] == [
        "extra_key",
        "missing_role",
        "bad_content",
        "unknown_role",
        "message_extra_key",
        "bad_weight",
    ]


def test_a_byte_order_mark_is_accepted_and_noted(check: Any) -> None:
    checked = check(b"\xef\xbb\xbf" + b"\n".join([ROW] * 10))
    assert checked.places == [(1, 1, "byte_order_mark")]
    assert (checked.report.num_faults, checked.report.num_warnings) == (0, 1)


@pytest.mark.parametrize("content", [b"\n" + ROW, ROW + b"\n\n \n" + ROW])
def test_an_empty_line_between_rows_is_a_fault_because_an_upload_refuses_it(check: Any, content: bytes) -> None:
    (place,) = check(content, role="validation").places
    assert place[2] == "blank_line"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (gzip.compress(ROW * 100, mtime=0), "compressed_file"),
        (b"PK\x03\x04" + b"\x00" * 40, "compressed_file"),
        (b"PAR1" + b"\x00" * 20_000, "compressed_file"),
        (b"\n".join([ROW] * 10).decode().encode("utf-16"), "utf16_file"),
        (b"\n".join([ROW] * 10).decode().encode("utf-16-le"), "utf16_file"),
        (b"\n".join([ROW] * 10).decode().encode("utf-16-be"), "utf16_file"),
        (b"\n".join([ROW] * 10).decode().encode("utf-32"), "utf16_file"),
        (b"[\n" + b",\n".join([ROW] * 10) + b"\n]", "json_array_file"),
        (b"[" + b",".join([ROW] * 10) + b"]", "json_array_file"),
        (b'{\n  "messages": [\n  ]\n}\n', "pretty_printed"),
    ],
)
def test_a_file_of_another_kind_is_one_fault_not_thousands(check: Any, content: bytes, rule: str) -> None:
    assert check(content).places == [(1, 1, rule)]


def test_carriage_returns_alone_are_named(check: Any) -> None:
    assert check(b"\r".join([ROW] * 10)).places == [(1, len(ROW) + 2, "cr_line_ends")]


def test_rows_are_counted_last(check: Any) -> None:
    checked = check(b"\n".join([ROW] * 9))
    assert checked.places == [(0, 0, "too_few_examples")]
    assert checked.report.error == {
        "code": "invalid_n_examples",
        "message": "Training file has 9 example(s), but must have at least 10 examples",
        "param": "training_file",
    }
    assert check(b"").places == [(0, 0, "too_few_examples")]
    assert check(ROW, role="validation").places == []


def test_reinforcement_has_a_largest_number_of_rows(check: Any) -> None:
    rows = b"\n".join([REINFORCEMENT] * 1001)
    assert check(rows, role="validation", method="reinforcement").places == [(0, 0, "too_many_examples")]
    assert check(rows, role="training", method="reinforcement").places == []


def test_preferences_are_known_by_their_keys_and_reinforcement_by_the_method(check: Any) -> None:
    preferences = check(b"\n".join([PREFERENCE] * 10))
    assert (preferences.places, preferences.report.method, preferences.report.format) == ([], "dpo", "preference")
    rewards = check(b"\n".join([REINFORCEMENT] * 10), method="reinforcement")
    assert (rewards.places, rewards.report.format) == ([], "reinforcement")
    assert check(REINFORCEMENT).places[0][2] == "extra_key"


def test_the_names_of_the_first_specification_are_taken(check: Any) -> None:
    earlier = PREFERENCE.replace(b"preferred_output", b"preferred_completion")
    assert b"non_preferred_completion" in earlier
    assert check(b"\n".join([earlier] * 10)).places == []


def test_a_repeated_key_is_a_warning_and_the_row_counts(check: Any) -> None:
    row = ROW.replace(b'"role":"assistant"', b'"role":"user","role":"assistant"')
    checked = check(b"\n".join([row] * 10))
    assert [rule for _, _, rule in checked.places] == ["duplicate_key"] * 10
    assert (checked.report.num_faults, checked.report.counts["rows"], checked.report.error) == (0, 10, None)
    escaped = ROW.replace(b'"a"', b'"a\\u003a"').replace(b'"role":"assistant"', b'"role":"user","role":"assistant"')
    assert check(escaped, role="validation").places[0][2] == "duplicate_key"
    assert check(ROW.replace(b'"a"', b'"a\\u003a b:"'), role="validation").places == []


def test_the_counts_tell_what_is_sound(check: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    row = {
        "messages": [
            {"role": "system", "content": "s"},
            USER,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
            {"role": "assistant", "content": "a", "weight": 0},
            {"role": "assistant", "content": "b"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    content = b"\n".join([ROW] * 9 + [orjson.dumps(row)])
    assert check(content).report.counts == {
        "rows": 10,
        "longest_line": 10,
        "longest_line_bytes": len(orjson.dumps(row)),
        "messages": 24,
        "roles": {"assistant": 12, "system": 1, "tool": 1, "user": 10},
        "fewest_messages": 2,
        "most_messages": 6,
        "assistant_messages_with_weight_0": 1,
        "tool_calls": 1,
        "rows_with_tools": 1,
        "rows_without_system_message": 9,
        "rows_without_user_message": 0,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join([ROW] * 10 + [BAD]),
        b"\n".join([ROW] * 3),
        b"\n".join([ROW] * 10 + [b"{'a': 1}"]),
        b"\n".join([ROW, b"", ROW]),
        gzip.compress(ROW, mtime=0),
        b"\n".join([ROW] * 12),
    ],
)
def test_the_report_foretells_the_jobs_error(check: Any, tmp_path: Path, content: bytes) -> None:
    foretold = check(content).report.error
    if foretold is None:
        assert len(_collect(tmp_path / "train.jsonl").examples) == 12
        return
    with pytest.raises(DataFailure) as caught:
        _collect(tmp_path / "train.jsonl")
    assert foretold == {"code": caught.value.code, "message": caught.value.message, "param": caught.value.param}


def test_memory_stays_flat_over_a_file_of_faults(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join([BAD] * 2_000 + [b"{" * 3_000_000]))
    seen = 0

    def count(_finding: LineError) -> None:
        nonlocal seen
        seen += 1

    tracemalloc.start()
    check_file(path, role="training", method=None, max_line_bytes=CAP, on_finding=count)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 2_001
    assert peak < 500_000


def test_a_row_with_a_million_faults_is_told_a_hundred_times(check: Any) -> None:
    row = b'{"messages": [' + b",".join([b"1"] * 4_000) + b"]}"
    assert len(check(row).findings) == 100
