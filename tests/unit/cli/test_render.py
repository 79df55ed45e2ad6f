"""The terminal trace: what it shows, that it fits, and that a model's text cannot speak to the terminal."""

import io
import re

import pytest
from rich.cells import cell_len
from rich.console import Console

from luthier.cli.render.curve import loss_curve
from luthier.cli.render.epochs import epoch_table
from luthier.cli.render.prediction import prediction
from luthier.cli.render.report import print_report
from luthier.cli.render.stages import stages
from luthier.cli.render.text import bar, literal, number, plain, seconds, size, token_text, when
from luthier.cli.render.tokens import token_line
from luthier.core.stage import Stage
from luthier.trace.events import ForecastChecked, Notice, RangeTested, RunFinished, StageFinished
from luthier.trace.view import TraceView, view_of
from tests.support.trace_logs import FINAL, PREDICTION, epoch, events_of, step, whole_run


def printed(renderable: object, width: int = 100, *, colour: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None)
    console.print(renderable)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def report_at(width: int, view: TraceView) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_report(console, view)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_whole_report_fits_and_tells_everything(width: int) -> None:
    text = report_at(width, view_of(whole_run()))
    assert max(cell_len(line) for line in text.splitlines()) <= min(width, 120)
    flat = " ".join(text.split())
    for part in (
        "Data collection",
        "Data preprocessing",
        "Fine-tuning training",
        "Evaluation",
        "Deployment",
        "16 lines",
        "1 blank line left out",
        "resumed after step 2",
        "held out",
        "1,000 trainable of 8,000 parameters",
        "16 examples are few.",
        "base 0 of 4 tuned 3 of 4",
        "better on 3, worse on 0, same on 1 of 4",
        "123.5 kB",
        "150 tokens/s",
        "line 17 Translate to French: Hi -> Salut (expected) base Hello after epoch 2 Salut",
        "Steps: 2,400 tokens/s in the middle step, 50 % of what the device does in the model's matrices, 25 % padding, 400.0 MB",
        "warn: a plain sentence",
    ):
        assert part in flat, part
    assert FINAL in text.replace("\n", "")


def test_a_fresh_job_shows_five_waiting_stages_and_nothing_else() -> None:
    text = report_at(80, TraceView())
    assert text.count("not reached yet") == 5
    assert not re.search(r"loss|accuracy|tokens/s", text)


def test_a_stage_that_was_left_out_says_so() -> None:
    view = view_of(events_of([(Stage.TRAINING, RunFinished(status="failed", error={"message": "The job [b]failed"}))]))
    text = report_at(80, view)
    assert text.count("left out") == 5
    assert "Error: The job [b]failed" in text


def test_epoch_table_holds_base_epochs_and_observations() -> None:
    text = printed(epoch_table(view_of(whole_run())), 120)
    rows = [line.split() for line in text.splitlines()]
    assert ["base", "-", "-", "3.50", "0.25"] in [r[:5] for r in rows]
    assert ["1/2", "2.50", "0.70", "1.25", "0.80"] in [r[:5] for r in rows]
    assert ["2/2", "1.25", "0.90", "1.00", "0.80"] in [r[:5] for r in rows]
    assert "learning fast" in text
    assert "best held-out loss so far" in text


def test_held_out_columns_stand_there_without_held_out_data() -> None:
    view = view_of(events_of([(Stage.TRAINING, epoch(1, 1.0, None))]))
    text = printed(epoch_table(view), 120)
    assert "held-out loss" in text
    assert ["1/2", "1.00", "0.70", "-", "-"] in [line.split()[:5] for line in text.splitlines()]


@pytest.mark.parametrize("width", [30, 80, 120])
def test_the_curve_falls_from_left_to_right(width: int) -> None:
    points = [step(i, 4.0 / i, total=40) for i in range(1, 41)]
    text = printed(loss_curve(points, [epoch(1, 1.0, 0.5, steps=40, n=1)], width=width), width)
    plot = [line.split("│ ", 1)[1] for line in text.splitlines() if "│" in line]
    assert len(plot) == 13
    assert max(cell_len(line) for line in text.splitlines()) <= width
    heights = {column: row for row in range(13) for column, mark in enumerate(plot[row]) if mark == "•"}
    columns = sorted(heights)
    assert heights[columns[0]] == 0
    assert [heights[c] for c in columns] == sorted(heights[c] for c in columns)
    assert sum(line.count("○") for line in plot) == 1
    assert "Train loss 1.00 in epoch 1; best held-out loss 0.50 after epoch 1." in " ".join(text.split())


def test_a_curve_of_one_step_and_one_without_finite_losses() -> None:
    assert "•" in printed(loss_curve([step(1, total=1)], [], width=60), 60)
    assert "no finite loss" in printed(loss_curve([step(1, float("nan"))], [], width=60), 60)


@pytest.mark.parametrize("width", [80, 120])
def test_prediction_shows_base_beside_tuned(width: int) -> None:
    text = printed(prediction(PREDICTION), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "Translate to French: Good [bold]bye" in text
    assert "<|user|>Translate·to<|assistant|>" in text
    assert re.search(r"1\s+Hello\s+0\.250\s+█+\s+Salut\s+0\.875\s+█+", text)
    assert "Au 0.062" in text
    assert "luthier trace JOB --prompt TEXT" in " ".join(text.split())


def test_a_training_prompt_is_marked_as_one() -> None:
    assert "a training prompt" in printed(prediction({**PREDICTION, "held_out": False}))


def test_an_empty_answer_is_shown_as_empty() -> None:
    traced = {**PREDICTION, "base": {"answer": "", "path": []}}
    text = printed(prediction(traced))
    assert "(empty answer)" in text
    assert "The base model ended its answer at once" in text
    assert "ended its answer at once" not in printed(prediction(PREDICTION))


def test_token_kinds_differ_without_colour_too() -> None:
    tokens = [{"text": "a", "kind": "trained"}, {"text": "b", "kind": "context"}, {"text": "<c>", "kind": "special"}]
    styles = [str(span.style) for span in token_line(tokens).spans]
    assert "underline" in styles[0]
    assert "underline" not in styles[1]
    assert "italic" in styles[2]


HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] [/nope] \u202egnp\u202c \ud83d end\r\n"


def test_hostile_text_is_printed_as_text() -> None:
    sample = {"line": 3, "prompt": HOSTILE, "completion": HOSTILE}
    report = StageFinished(shape_in=HOSTILE, did=HOSTILE, shape_out=HOSTILE, seconds=1.0, changes=(HOSTILE,), sample=sample)
    events = events_of([(Stage.COLLECTION, report), (Stage.TRAINING, Notice(level="warn", message=HOSTILE))])
    view = view_of(events)
    view.prediction = {
        **PREDICTION,
        "prompt": HOSTILE,
        "tuned": {"answer": HOSTILE, "path": [{"token": HOSTILE, "probability": 1.0, "top": [{"token": HOSTILE, "probability": 1.0}]}]},
    }
    text = report_at(100, view) + printed(stages(view))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "[bold]x[/bold] [/nope]" in text


def test_plain_text_and_numbers() -> None:
    assert plain("a\nb\tc\x00") == "a⏎b⇥c"
    assert plain("abcdef", max_length=4) == "abc…"
    assert literal("[red]x").plain == "[red]x"
    assert token_text(" le") == "·le"
    assert token_text("") == "∅"
    assert [seconds(v) for v in (0.0123, 3.44, 125, 11_220)] == ["12 ms", "3.4 s", "2 min 05 s", "3 h 07 min"]
    assert [size(v) for v in (12, 1300, 17_400_000, 5e12)] == ["12 B", "1.3 kB", "17.4 MB", "5000.0 GB"]
    assert (number(None), number(0.456)) == ("-", "0.46")
    assert [bar(v, 10) for v in (0.0, 0.01, 0.5, 1.0, 7.0)] == ["", "▏", "█" * 5, "█" * 10, "█" * 10]


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (0, "just now"),
        (-3, "now"),
        (45, "45 seconds ago"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (7200, "2 hours ago"),
        (90_000, "yesterday"),
        (5 * 86_400, "5 days ago"),
        (-7300, "in 2 hours"),
        (-86_400, "in 1 day"),
    ],
)
def test_moments_in_words(distance: int, words: str) -> None:
    assert when(1_700_000_000 - distance, 1_700_000_000.0) == words


def test_moments_far_away_are_dates() -> None:
    assert re.fullmatch(r"1[45] Nov 2023", when(1_700_000_000, 1_800_000_000.0))
    assert when(None) == "-"


def test_the_forecast_stands_above_the_curve_until_it_stands_beside_the_actual() -> None:
    running = report_at(120, view_of(whole_run()))
    assert "forecast by formula: 34.0 s (20.0 s to 1 min 05 s), peak memory 500.0 MB (425.0 MB to 575.0 MB)" in running
    checked = ForecastChecked(
        basis="first_steps",
        forecast_seconds=(20.0, 34.0, 65.0),
        seconds=40.4,
        forecast_bytes=(4e8, 5e8, 6e8),
        peak_bytes=510_000_000,
        forecast_tokens=800,
        tokens=800,
    )
    events = [*whole_run(), *events_of([(Stage.DEPLOYMENT, checked)], first_id=len(whole_run()) + 1)]
    ended = " ".join(report_at(120, view_of(events)).split())
    assert "forecast by formula" not in ended
    assert "Forecast beside actual" in ended
    assert "peak memory 500.0 MB (400.0 MB to 600.0 MB) 510.0 MB" in ended


@pytest.mark.parametrize("points", [0, 1, 60])
def test_a_range_test_is_shown_with_its_lowest_point(points: int) -> None:
    told = RangeTested(
        steps=60,
        base_rate=2e-4,
        learning_rate=3e-4,
        lowest_rate=1e-5 * 1.1**41 if points == 60 else None,
        rates=tuple(1e-5 * 1.1**at for at in range(points)),
        losses=tuple(5.0 - at / 100 for at in range(points)),
        changes=tuple(-at / 10 for at in range(points)),
        curve=tuple(-at / 20 for at in range(points)),
        seconds=2.0,
    )
    view = view_of(whole_run())
    view.range_test = told
    text = " ".join(report_at(100, view).split())
    assert f"Range test of the learning rate: {points} of 60 steps, 0.0003 is taken" in text
    if points == 60:
        assert "4.98e-04 4.590 -4.100 -2.050 lowest" in text, "though it is none of the evenly spaced ones"
        assert "1.00e-05 5.000" in text
        assert "2.77e-03 4.410" in text
