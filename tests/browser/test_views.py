"""The nine views of one real job: each shows a number that stands in the job's log or files, and a word of the user's own rows."""

import ast
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from luthier.core.row_losses import read_epoch
from luthier.core.stage import Stage
from luthier.trace import insight, quiz
from luthier.trace.insight import insight_of
from luthier.trace.quiz import quiz_of
from luthier.trace.view import TraceView
from tests.browser.trained import EPOCHS, ROWS, SUFFIX, Trained, shown_chance, shown_count, shown_loss, word
from tests.support.examples import pairs

if TYPE_CHECKING:
    from playwright.sync_api import Page

ANSWER_MS = 60_000


def open_view(page: "Page", trained: Trained, view: str, anchor: str = "") -> None:
    """Go there, and wait until the view is drawn."""
    page.goto(f"/ui/jobs/{trained.id}" + ("" if view == "story" else f"/{view}") + (f"#{anchor}" if anchor else ""))
    page.locator("#view-title").wait_for()


def story(trained: Trained) -> list[str]:
    report = trained.view.stages[Stage.COLLECTION].report
    assert report is not None
    return [report.shape_out, word(int(report.sample["line"]))]


def data(trained: Trained) -> list[str]:
    forecast, cut = trained.view.forecast, trained.view.stages[Stage.PREPROCESSING].report
    assert forecast is not None
    assert cut is not None
    return [shown_count(forecast["tokens_per_epoch"]), cut.shape_out, word()]


def training(trained: Trained) -> list[str]:
    last = trained.view.ordered_epochs()[-1]
    assert last.valid_loss is not None
    return [shown_loss(last.valid_loss), trained.view.observations()[EPOCHS], SUFFIX]


def examples(trained: Trained) -> list[str]:
    rows = read_epoch(trained.run_dir, EPOCHS)
    worst = rows[rows["loss"].argmax()]
    fixed = trained.view.answers[0].answers[0]
    return [f"Line {worst['line']}: {worst['tokens']} trained token", shown_loss(float(worst["loss"])), str(fixed["prompt"])]


def prediction(trained: Trained) -> list[str]:
    recorded = trained.view.prediction
    assert recorded is not None
    return [recorded["tuned"]["answer"].strip(), shown_chance(recorded["tuned"]["path"][0]["probability"])]


def compare(trained: Trained) -> list[str]:
    report = trained.view.evaluation
    assert report is not None
    sample = report["samples"][0]
    return [f"better on {report['better']} of {report['n']}", sample["prompt"], sample["expected"], shown_loss(report["tuned"]["loss"])]


def questions(trained: Trained) -> list[str]:
    asked = quiz_of(trained.view)
    assert asked is not None
    assert len(asked["questions"]) == 3
    return [text for one in asked["questions"] for text in (one["question"], *(answer["text"] for answer in one["answers"]))]


def code(trained: Trained) -> list[str]:
    return [trained.training_file, f'"n_epochs": {EPOCHS}', SUFFIX]


def events(trained: Trained) -> list[str]:
    saved = trained.view.checkpoints[max(trained.view.checkpoints)]
    assert trained.view.spec is not None
    return [saved.model_name, f"step {saved.step}", trained.model, trained.training_file]


EXPECTED: dict[str, Callable[[Trained], list[str]]] = {
    "story": story,
    "data": data,
    "training": training,
    "examples": examples,
    "prediction": prediction,
    "compare": compare,
    "quiz": questions,
    "code": code,
    "events": events,
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("view", EXPECTED)
def test_a_view_shows_numbers_of_the_log_and_words_of_the_rows(page: "Page", trained: Trained, view: str) -> None:
    open_view(page, trained, view)
    for text in EXPECTED[view](trained):
        page.wait_for_function("text => document.querySelector('main').textContent.includes(text)", arg=text)


def places(view: TraceView) -> set[tuple[str, str]]:
    """Every (view, anchor) that a question or an insight may name, out of their source; a number in an anchor is one of this run's."""
    best = min(view.ordered_epochs(), key=lambda row: row.valid_loss or 0.0).epoch
    line = (view.evaluation or {})["samples"][0]["line"]
    numbers = {"epoch-": best, "sample-": line}
    found: set[tuple[str, str]] = set()
    for module in (quiz, insight):
        for call in ast.walk(ast.parse(inspect.getsource(module))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in ("Question", "_Found"):
                continue
            named = {keyword.arg: keyword.value for keyword in call.keywords}
            where, anchor = (named["view"], named["anchor"]) if named else call.args[1:]
            assert isinstance(where, ast.Constant)
            if isinstance(anchor, ast.JoinedStr):
                assert isinstance(anchor.values[0], ast.Constant)
                begin = str(anchor.values[0].value)
                found.add((str(where.value), f"{begin}{numbers[begin]}"))
            else:
                assert isinstance(anchor, ast.Constant)
                found.add((str(where.value), str(anchor.value)))
    return found


@pytest.mark.timeout(400)
def test_every_place_that_a_question_or_an_insight_names_is_on_the_page(page: "Page", trained: Trained) -> None:
    asked, told = quiz_of(trained.view), insight_of(trained.view)
    assert asked is not None
    assert told is not None
    named = places(trained.view) | {(one["view"], one["anchor"]) for one in (*asked["questions"], told)}
    assert len(named) >= 7
    for view, anchor in sorted(named):
        open_view(page, trained, view, anchor)
        page.wait_for_function("id => document.activeElement.id === id", arg=anchor)
        assert page.locator(f"[id='{anchor}']").is_visible(), (view, anchor)


@pytest.mark.timeout(400)
def test_a_quiz_answer_leads_to_the_place_that_shows_it(page: "Page", trained: Trained) -> None:
    asked = quiz_of(trained.view)
    assert asked is not None
    open_view(page, trained, "quiz")
    for number, one in enumerate(asked["questions"], start=1):
        card = page.locator(f"#question-{number}")
        right = next(i for i, answer in enumerate(one["answers"]) if answer["correct"])
        card.locator(".answers button").nth(right).click()
        assert one["explanation"] in card.get_by_role("status").inner_text()
    page.get_by_text("3 of 3 right.").wait_for()
    one = asked["questions"][0]
    page.locator("#question-1").get_by_role("link", name="See it on the page").click()
    page.wait_for_url(f"**/ui/jobs/{trained.id}/{one['view']}#{one['anchor']}")
    page.wait_for_function("id => document.activeElement.id === id", arg=one["anchor"])


@pytest.mark.timeout(400)
def test_a_prompt_is_traced_in_all_its_layers_and_goes_on_from_another_token(page: "Page", trained: Trained) -> None:
    open_view(page, trained, "prediction")
    page.get_by_label("Prompt", exact=True).fill(pairs("valid.jsonl")[0][0])
    with page.expect_response("**/v1/luthier/trace") as waiting:
        page.get_by_role("button", name="Trace it").click()
    page.get_by_text("Traced in").wait_for(timeout=ANSWER_MS)
    trace = waiting.value.json()
    assert [one["reason"] for one in trace["missing"]] == []
    assert page.locator("[data-answer=tuned]").inner_text().strip() == trace["tuned"]["answer"].strip()
    for number in range(1, 6):
        layer = page.locator(f"#layer-{number}")
        assert layer.count() == 1
        assert "Not shown" not in layer.inner_text()
    assert f"{len(trace['prompt_tokens'])} tokens" in page.locator("#layer-1").inner_text()
    steps = page.get_by_role("list", name="Steps of the tuned answer").get_by_role("button")
    assert shown_chance(trace["tuned"]["path"][0]["probability"]) in steps.first.inner_text()
    for line in (one["line"] for one in trace["nearest"]):
        assert 1 <= line <= ROWS
    page.locator("#layer-5 .branches").get_by_role("button").first.click()
    page.get_by_role("navigation", name="Branches").get_by_role("button").nth(1).wait_for(timeout=ANSWER_MS)
