"""The list of jobs and the training view, while a real job trains: what stands on the page is what the server's log holds."""

import re
from typing import TYPE_CHECKING, Any

import pytest
from openai import OpenAI

from tests.browser.conftest import WAIT_MS, sign_in
from tests.browser.trained import create, shown_loss, told
from tests.support.server import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

JOB_MS = 240_000
NAME = "first-french"


def test_a_first_visit_is_told_what_a_job_is_and_starts_one_by_one_click(visitor: "Page", server: ServerProcess) -> None:
    # A project of its own has no jobs, whatever else runs on this server.
    client = server.client()
    project: Any = client.post("/luthier/projects", body={"name": "newcomers"}, cast_to=object)
    key: Any = client.post("/luthier/keys", body={"name": "newcomer", "project_id": project["id"]}, cast_to=object)
    sign_in(visitor, key["value"])
    visitor.get_by_role("heading", name="No job yet").wait_for()
    visitor.get_by_role("button", name="Run the demo").click()
    visitor.wait_for_url("**/ui/jobs/ftjob-*")
    job_id = visitor.url.rpartition("/jobs/")[2].partition("/")[0]
    theirs = OpenAI(base_url=server.url + "/v1", api_key=key["value"])
    assert theirs.fine_tuning.jobs.retrieve(job_id).status in {"validating_files", "queued", "running"}
    theirs.fine_tuning.jobs.cancel(job_id)
    visitor.get_by_text("Cancelled", exact=True).first.wait_for()


@pytest.mark.timeout(400)
def test_a_job_appears_trains_before_ones_eyes_and_its_numbers_are_those_of_its_log(page: "Page", server: ServerProcess) -> None:
    page.get_by_role("heading", name="Jobs", exact=True).wait_for()
    job_id = create(server, suffix=NAME, epochs=2)
    page.get_by_role("link", name=NAME).click()
    page.get_by_role("navigation", name="Views of this job").get_by_role("link", name="Training").click()
    page.wait_for_url(f"**/ui/jobs/{job_id}/training")
    page.get_by_text("Succeeded", exact=True).wait_for(timeout=JOB_MS)
    row = page.locator("#epoch-2")
    row.wait_for(timeout=WAIT_MS)
    view = told(server, job_id)
    last = view.ordered_epochs()[-1]
    assert view.observations()[2] in row.inner_text()
    assert last.valid_loss is not None
    assert shown_loss(last.valid_loss) in row.inner_text()
    page.locator("#curve").get_by_role("button", name="Show as table").click()
    rows = page.locator("#curve tbody tr")
    rows.first.wait_for()
    steps = [int(rows.nth(i).locator("td").first.inner_text()) for i in range(rows.count())]
    assert steps == [step.step for step in view.ordered_steps()]


def test_a_filter_stands_in_the_address_and_two_jobs_can_be_laid_over_each_other(page: "Page", server: ServerProcess) -> None:
    second = create(server, suffix="second-french", epochs=1)
    server.wait_for_job(second)
    page.goto("/ui/jobs?status=succeeded&search=second")
    page.get_by_role("link", name="second-french").wait_for()
    assert page.get_by_role("link", name=NAME).count() == 0
    page.goto("/ui/jobs")
    for name in (NAME, "second-french"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("link", name="Lay over each other").click()
    page.wait_for_url(re.compile(r"compare=ftjob-\w+,ftjob-\w+"))
    page.get_by_role("application").wait_for()
    assert page.get_by_role("region", name="The jobs laid over each other").get_by_role("link", name=NAME).count() == 1


@pytest.mark.timeout(300)
def test_a_running_job_is_cancelled_from_the_list(page: "Page", server: ServerProcess) -> None:
    job_id = create(server, suffix="to-be-cancelled", epochs=50)
    page.get_by_role("checkbox", name="Choose to-be-cancelled").check()
    page.get_by_role("button", name="Cancel 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel 1 job").click()
    page.get_by_role("row", name=re.compile("to-be-cancelled")).get_by_text("Cancelled", exact=True).wait_for(timeout=WAIT_MS)
    assert server.wait_for_job(job_id).status == "cancelled"


@pytest.mark.timeout(300)
def test_a_page_that_was_open_while_the_server_was_killed_goes_on_by_itself(visitor: "Page", server: ServerProcess) -> None:
    sign_in(visitor, server.key)
    visitor.get_by_role("link", name=NAME).click()
    visitor.get_by_text("Live", exact=True).wait_for()
    port = server.url.rsplit(":", 1)[1]
    server.kill_all()
    visitor.get_by_text("Not live", exact=True).wait_for()
    server.start(port=port)
    visitor.get_by_text("Live", exact=True).wait_for(timeout=60_000)
    create(server, suffix="after-the-restart", epochs=1)
    visitor.goto("/ui/jobs")
    visitor.get_by_role("link", name="after-the-restart").wait_for()
