"""The whole examination: faults, hostile rows, detectors, progress, the report as JSON."""

import json

from luthier.core.doctor_report import DoctorFinding, DoctorReport, Weight
from luthier.data.doctor.examine import ordered, with_findings
from luthier.data.doctor.row import DoctorRow
from tests.support.doctor_files import chat, clean_rows, codes, examined


class Seen:
    """A detector that keeps what it was shown."""

    codes = ("seen",)

    def __init__(self) -> None:
        self.rows: list[DoctorRow] = []

    def see(self, row: DoctorRow) -> None:
        self.rows.append(row)

    def findings(self) -> list[DoctorFinding]:
        return [_finding("seen", Weight.SERIOUS)]


def _finding(code: str, weight: Weight) -> DoctorFinding:
    return DoctorFinding(code=code, weight=weight, count=1, lines=(1,), finding="f", why="w", cure="c")


def test_faulty_rows_are_left_out_and_counted(tmp_path):
    rows = clean_rows(12)
    report = examined(tmp_path, [*rows[:3], b"{broken", {"messages": []}, *rows[3:], rows[0]])
    assert report.num_rows == 13
    assert report.statistics["faults"]["lines"] == 2
    assert "Example 4 is not valid JSON" in report.statistics["faults"]["first"]
    assert [finding.lines for finding in report.findings if finding.code == "exact_duplicate"] == [(15,)]


def test_a_blank_line_is_a_fault_of_the_file_and_not_of_the_row_behind_it(tmp_path):
    report = examined(tmp_path, [*clean_rows(12), b"", clean_rows(1, seed=8)[0]])
    assert (report.num_rows, report.statistics["faults"]["lines"]) == (13, 1)


def test_files_that_cannot_be_read_as_rows(tmp_path):
    for rows in ([], [b"\xff\xfe{\x00"], [b"[", *clean_rows(3), b"]"], [b"{}"] * 20):
        report = examined(tmp_path, rows)
        assert (report.num_rows, report.findings) == (0, ())
        assert report.statistics["faults"]["first"]
    report = examined(tmp_path, clean_rows(3))
    assert (report.num_rows, report.statistics["faults"]["lines"]) == (3, 0)
    assert "must have at least 10 examples" in report.statistics["faults"]["first"]


def test_hostile_rows_end_in_findings(tmp_path):
    rows = [
        chat("\x1b[31mred\x07 \u202e\u2028", "\x1b]0;title\x07 \ufeff"),
        chat("\x1b[31mred\x07 \u202e\u2028", "another"),
        chat("a" * 2_000_000, "b"),
        chat(" ", " . "),
        chat("\ud7ff\U0010ffff", "\u0000"),
        b'{"messages": ' + b"[" * 100_000,
        *clean_rows(30),
    ]
    report = examined(tmp_path, rows)
    assert report.num_rows == 35
    assert {"conflicting_answers", "long_prompt"} <= codes(report)
    shown = json.dumps(report.to_dict(), ensure_ascii=False)
    assert all(mark.isprintable() for mark in shown)


def test_excerpts_do_not_show_what_looks_private(tmp_path):
    rows = [*clean_rows(20), *(chat("mail ada@example.org key sk-abcdefghijklmnopqrstuvwxyz012345 tel +44 20 7946 0958", a) for a in "ab")]
    report = examined(tmp_path, rows)
    shown = " ".join(example for finding in report.findings for example in finding.examples)
    assert "mail *** key *** tel" in shown
    assert "example.org" not in shown
    assert "7946" not in shown


def test_detectors_see_each_sound_row_once_and_in_order(tmp_path):
    detector = Seen()
    report = examined(tmp_path, [*clean_rows(12), b"{", chat("q", "a")], clean_rows(3, seed=2), detectors=[detector])
    assert [row.line for row in detector.rows] == [*range(1, 13), 14]
    assert detector.rows[-1].answer == "a"
    assert "seen" in report.checks
    assert report.findings[0].code == "seen"


def test_findings_of_other_processes_are_put_in_order():
    report = DoctorReport(file="f", num_rows=1, row_format="chat", findings=(_finding("b", Weight.WORTH_A_LOOK),), checks=("b",))
    report = with_findings(report, [_finding("a", Weight.SERIOUS)], checks=["a"], skipped={"x": "why"}, statistics={"y": 1})
    assert [finding.code for finding in report.findings] == ["a", "b"]
    assert (report.checks, report.skipped, report.statistics) == (("b", "a"), {"x": "why"}, {"y": 1})
    assert [f.code for f in ordered([_finding("i", Weight.INFORMATION), _finding("s", Weight.SERIOUS)])] == ["s", "i"]
    as_json = report.to_dict()
    assert (as_json["object"], as_json["num_findings"], as_json["num_serious"]) == ("luthier.doctor_report", 2, 1)
    assert as_json["findings"][0]["weight"] == "serious"


def test_progress_counts_the_bytes_of_both_files(tmp_path):
    told: list[int] = []
    rows = [chat(f"question {i}", "word " * 2000) for i in range(300)]
    examined(tmp_path, rows, rows, on_progress=told.append)
    total = sum((tmp_path / name).stat().st_size for name in ("train.jsonl", "valid.jsonl"))
    assert told == sorted(told)
    assert total - (1 << 20) < told[-1] <= total
