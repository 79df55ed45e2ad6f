"""Asking two models before a real server: why it said that, a link that asks the same again, and side branches that go on."""

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.trained import Trained, shown_chance, shown_loss
from tests.support.examples import pairs
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

ANSWER_MS = 60_000


def ask(page: "Page", trained: Trained, prompt: str) -> None:
    """Ask tuned and base greedily, and wait until both have answered."""
    page.goto(f"/ui/playground?a={trained.model}&b=luthier-mini")
    page.get_by_label("Message").fill(prompt)
    page.get_by_label("Temperature", exact=True).fill("0")
    page.get_by_label("Most tokens", exact=True).fill("16")
    page.get_by_role("button", name="Ask both").click()
    answered(page)


def answered(page: "Page") -> list[str]:
    """Both answers, once they are complete."""
    page.get_by_role("button", name="Ask both").wait_for(timeout=ANSWER_MS)
    page.get_by_role("button", name="Why did it say that?").nth(1).wait_for(timeout=ANSWER_MS)
    return [page.locator("section .answer").nth(i).inner_text().strip() for i in range(2)]


@pytest.mark.timeout(400)
def test_why_did_it_say_that_is_told_from_this_very_answer(page: "Page", trained: Trained) -> None:
    prompt = pairs("valid.jsonl")[0][0]
    ask(page, trained, prompt)
    said = answered(page)[0]
    pane = page.get_by_role("region", name="A", exact=True)
    with page.expect_response("**/v1/luthier/trace") as waiting:
        pane.get_by_role("button", name="Why did it say that?").click()
    pane.get_by_role("heading", name="Why it said that").wait_for(timeout=ANSWER_MS)
    trace: dict[str, Any] = waiting.value.json()
    assert trace["forced"]["source"] == "answer"
    assert "".join(token["text"] for token in trace["forced"]["tokens"]).strip().startswith(said)
    shown = pane.inner_text()
    first = trace["why"]["most_shifted"][0]
    rows = pane.get_by_role("table").nth(0).get_by_role("row")
    assert shown_loss(abs(first["change"])) in rows.nth(1).inner_text()
    layers = pane.get_by_role("table").nth(1).get_by_role("row")
    assert layers.count() == 1 + len(trace["why"]["first_layers"])
    for number, told in enumerate(trace["why"]["first_layers"], start=1):
        layer = "never" if told["tuned_layer"] is None else str(told["tuned_layer"])
        assert layer in layers.nth(number).inner_text().split()
    assert trace["nearest"]
    for row in trace["nearest"]:
        assert f"line {row['line']}," in shown
        assert row["prompt"] in shown
        assert (row["prompt"], row["answer"]) == pairs()[row["line"] - 1]


@pytest.mark.timeout(400)
def test_a_permalink_opened_again_asks_the_same(page: "Page", trained: Trained, server: ServerProcess) -> None:
    prompt = 'Translate to French: a & b = "100 %"? #1'
    ask(page, trained, prompt)
    said = answered(page)
    page.wait_for_function("text => new URL(location.href).searchParams.get('prompt') === text", arg=prompt)
    page.evaluate("() => { navigator.clipboard.writeText = async text => { window.copied = text; }; }")
    page.get_by_role("button", name="Copy link the link to this question").click()
    link = page.evaluate("() => window.copied")
    assert link == page.url
    assert server.key.strip() not in link
    assert parse_qs(urlsplit(link).query)["a"] == [trained.model]

    again = page.context.new_page()
    again.goto(link)
    again.get_by_label("Message").wait_for()
    assert again.get_by_label("Message").input_value() == prompt
    assert [again.get_by_label(name).input_value() for name in ("Model A", "Model B")] == [trained.model, "luthier-mini"]
    assert [again.get_by_label(name, exact=True).input_value() for name in ("Temperature", "Most tokens")] == ["0", "16"]
    again.get_by_role("button", name="Ask both").click()
    assert answered(again) == said
    again.close()


def _steps(page: "Page") -> "Locator":
    return page.get_by_role("list", name="Steps of the tuned answer").get_by_role("button")


def _branch(page: "Page", step: int) -> dict[str, Any]:
    """Go on with the likeliest other token at a step; the trace that came of it."""
    _steps(page).nth(step).click()
    with page.expect_response("**/v1/luthier/trace") as waiting:
        page.locator("#layer-5 .branches").get_by_role("button").first.click()
    page.wait_for_function("() => /Traced in/.test(document.querySelector('[role=status].small').textContent)", timeout=ANSWER_MS)
    return waiting.value.json()


@pytest.mark.timeout(400)
def test_a_side_branch_goes_on_and_branches_again(page: "Page", trained: Trained) -> None:
    page.goto(f"/ui/jobs/{trained.id}/prediction")
    page.get_by_label("Prompt", exact=True).fill(pairs("valid.jsonl")[0][0])
    with page.expect_response("**/v1/luthier/trace") as waiting:
        page.get_by_role("button", name="Trace it").click()
    page.get_by_text("Traced in").wait_for(timeout=ANSWER_MS)
    first = waiting.value.json()

    one = _branch(page, 0)
    other = next(token for token in first["tuned"]["path"][0]["top"] if token["id"] != first["tuned"]["path"][0]["id"])
    assert (one["tuned"]["path"][0]["id"], one["tuned"]["path"][0]["forced"]) == (other["id"], True)
    assert len(one["tuned"]["path"]) > 1, "the model went on from it"
    branches = page.get_by_role("navigation", name="Branches").get_by_role("button")
    branches.nth(1).wait_for()
    assert f"chosen, {shown_chance(other['probability'])}" in _steps(page).first.inner_text()

    two = _branch(page, 1)
    assert [step["id"] for step in two["tuned"]["path"][:1]] == [other["id"]]
    assert [step["forced"] for step in two["tuned"]["path"][:2]] == [True, True]
    assert two["tuned"]["path"][1]["id"] != one["tuned"]["path"][1]["id"]
    branches.nth(2).wait_for()
    assert branches.count() == 3
    # The first answer is still there, as it was.
    branches.first.click()
    assert re.search(re.escape(shown_chance(first["tuned"]["path"][0]["probability"])), _steps(page).first.inner_text())
    assert "chosen" not in _steps(page).first.inner_text()
