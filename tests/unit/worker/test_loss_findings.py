"""What losses say about rows, from numbers alone."""

import math

import pytest

from luthier.core.doctor_report import Weight
from luthier.worker.loss_findings import MIN_ROWS, Bounds, RowLoss, bounds_of, code_of, findings_of_losses, statistics_of

VOCAB = 8192


def _row(line: int, loss: float, tokens: int = 20, correct: int = 5) -> RowLoss:
    return RowLoss(line=line, loss=loss, num_tokens=tokens, num_correct=correct)


USUAL = [_row(line, 2.0 + 0.01 * line) for line in range(1, 41)]


def test_usual_rows_have_no_finding() -> None:
    assert findings_of_losses(USUAL, bounds_of(USUAL, VOCAB), model="m") == []


def test_a_row_far_from_the_others_is_bizarre() -> None:
    rows = [*USUAL, _row(41, 6.0), _row(50, 9.5)]
    bounds = bounds_of(rows, VOCAB)
    assert bounds.far == pytest.approx(math.log(VOCAB) / 2)
    (finding,) = findings_of_losses(rows, bounds, model="m")
    assert (finding.code, finding.weight, finding.count, finding.lines) == ("bizarre", Weight.WORTH_A_LOOK, 2, (41, 50))
    assert finding.finding == "2 of 42 measured rows have an answer that m finds bizarre: a loss above 4.5."
    assert finding.examples == ("line 50: loss 9.50 over 20 tokens", "line 41: loss 6.00 over 20 tokens")
    assert finding.measured_on == 42


def test_the_bound_rises_with_the_spread_of_the_file() -> None:
    rows = [_row(line, 2.0 + 0.1 * line) for line in range(1, 41)]
    far = bounds_of(rows, VOCAB).far
    assert far is not None
    assert far == pytest.approx(4.05 + 5 * 1.4826 * 1.0)


def test_short_answers_are_never_bizarre_and_few_rows_say_nothing_of_what_is_usual() -> None:
    label = _row(60, 12.0, tokens=3)
    assert code_of(label, bounds_of([*USUAL, label], VOCAB)) is None
    few = USUAL[: MIN_ROWS - 1]
    bounds = bounds_of(few, VOCAB)
    assert bounds == Bounds(random=math.log(VOCAB), far=None)
    assert code_of(_row(60, 8.0), bounds) is None
    assert code_of(_row(60, 9.1), bounds) == "bizarre"


def test_an_answer_is_predicted_when_every_token_is_the_first_choice_and_sure() -> None:
    rows = [*USUAL, _row(50, 0.05, tokens=3, correct=3), _row(51, 0.05, correct=19), _row(52, 0.2, correct=20)]
    bounds = bounds_of(rows, VOCAB)
    assert [code_of(row, bounds) for row in rows[-3:]] == ["already_predicted", None, None]
    (finding,) = findings_of_losses(rows, bounds, model="m")
    assert (finding.code, finding.weight, finding.lines) == ("already_predicted", Weight.INFORMATION, (50,))
    many = [_row(line, 0.01, correct=20) for line in range(200, 260)]
    rows = [*USUAL, *many]
    (finding,) = findings_of_losses(rows, bounds_of(rows, VOCAB), model="m")
    assert (finding.count, finding.weight, len(finding.lines), len(finding.examples)) == (60, Weight.WORTH_A_LOOK, 50, 3)


def test_statistics_name_the_bounds_and_weigh_rows_alike() -> None:
    rows = [_row(1, 1.0, tokens=10, correct=10), _row(2, 3.0, tokens=30, correct=0)]
    statistics = statistics_of(rows, bounds_of(rows, VOCAB))
    assert statistics["loss"]["median"] == statistics["loss"]["mean"] == 2.0
    assert (statistics["num_measured"], statistics["num_tokens"], statistics["accuracy"]) == (2, 40, 0.25)
    assert statistics["bounds"]["bizarre_far"] is None
    assert statistics_of([], Bounds(random=9.0, far=None)) == {"num_measured": 0}
