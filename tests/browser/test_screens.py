"""New job, data sets, models, playground and system before a real server: from a dropped file to an answer of the tuned model."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

TRAINED_MS = 240_000
WORDS = ("chat", "chien", "maison", "soleil", "lune", "arbre", "pain", "eau", "livre", "rue", "main", "fleur")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound file; its answers are known words."""
    path = tmp_path_factory.mktemp("rows") / "mots.jsonl"
    lines = (
        {"messages": [{"role": "user", "content": f"Word {i}"}, {"role": "assistant", "content": word}]} for i, word in enumerate(WORDS)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_file_becomes_a_job_and_the_job_a_model_that_answers(page: "Page", server: ServerProcess, rows: Path) -> None:
    page.goto("/ui/new")
    page.locator("input[type=file]").first.set_input_files(rows)
    page.get_by_text(f"{len(WORDS)} rows, no fault.").wait_for()
    page.get_by_label("Tokens of row 1", exact=True).wait_for()
    page.get_by_label("Epochs", exact=True).fill("1")
    page.get_by_text("1 epoch of").wait_for()
    # The draft stands in the address: a reload loses nothing.
    page.reload()
    assert page.get_by_label("Epochs", exact=True).input_value() == "1"
    page.get_by_text(f"{len(WORDS)} rows, no fault.").wait_for()
    page.get_by_role("button", name="Start the job").click()
    page.wait_for_url(re.compile("/ui/jobs/ftjob-"))
    page.get_by_text("Succeeded").first.wait_for(timeout=TRAINED_MS)
    job = page.url.split("/jobs/")[1].split("/")[0]
    model = server.client().fine_tuning.jobs.retrieve(job).fine_tuned_model
    assert model is not None

    page.goto(f"/ui/models?search={job}")
    page.get_by_role("link", name="Open in playground").first.click()
    page.get_by_label("Message").fill("Word 0")
    page.get_by_role("button", name="Ask both").click()
    page.get_by_role("button", name="Token probabilities").nth(1).wait_for()
    assert "Word+0" in page.url

    page.goto(f"/ui/models?search={job}")
    page.get_by_role("button", name=f"Delete {model}", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Delete the model").click()
    page.get_by_text("its final model is not there yet, or was deleted").or_(page.get_by_text("No tuned model is like that")).wait_for()
    assert model not in [one.id for one in server.client().models.list()]

    page.goto("/ui/data")
    page.get_by_role("button", name="Delete mots.jsonl").click()
    page.get_by_role("dialog").get_by_text("1 job that is over used it; it keeps its models").wait_for()
    page.get_by_role("button", name="Delete the file").click()
    page.get_by_role("link", name="mots.jsonl").wait_for(state="detached")


def test_a_faulty_file_is_told_line_by_line_and_starts_nothing(page: "Page", server: ServerProcess, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"messages": [\n')
    page.goto("/ui/new")
    page.locator("input[type=file]").first.set_input_files(broken)
    page.get_by_text("Not ready.").wait_for()
    page.get_by_text("Complete the row").wait_for()
    page.get_by_role("button", name="Start the job").click()
    assert "A file has faults" in page.get_by_role("alert").last.inner_text()
    assert page.url.split("?")[0].endswith("/ui/new")


def test_the_system_shows_its_parts_and_a_new_key_only_once(page: "Page", server: ServerProcess) -> None:
    page.goto("/ui/system")
    page.get_by_role("heading", name="Disk").wait_for()
    page.get_by_placeholder("Name of a new key").fill("ci")
    page.get_by_role("button", name="Make a key").click()
    value = page.get_by_role("status").locator("code").inner_text()
    assert value.startswith("sk-")
    page.reload()
    page.get_by_role("button", name="Revoke ci").wait_for()
    assert value not in page.content()
