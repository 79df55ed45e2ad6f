"""``luthier trace JOB --html``: one page from a fake API, its size, and text that tries to be more than text."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from luthier import __version__
from luthier.cli import job_page as pages
from luthier.cli.exit_codes import ExitCode
from luthier.cli.job_page import MAX_BYTES, page_frame
from luthier.cli.job_page_size import fitted
from luthier.trace.events import StepDone
from tests.support.command_line import luthier, one_line
from tests.support.fake_server import serving
from tests.support.sample_trace import sample_trace
from tests.support.saved_jobs import JOB, SavedJobApi, event_row, large_job
from tests.support.trace_logs import whole_run

_DATA = re.compile(r'<script type="application/json" id="job-data">(.*?)</script>', re.DOTALL)


def write(job: SavedJobApi, target: Path | str, *more: str) -> Result:
    with serving(job.api()) as url:
        return luthier("trace", JOB, "--html", str(target), *more, url=url)


def saved_in(content: bytes) -> dict[str, Any]:
    """What the page's own script would read."""
    (found,) = _DATA.findall(content.decode())
    return json.loads(found)


def test_the_page_holds_everything_that_the_views_read(tmp_path: Path) -> None:
    job = SavedJobApi()
    target = tmp_path / "job.html"
    result = write(job, target)
    assert result.exit_code == ExitCode.DONE, result.output
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"Wrote {target} ({target.stat().st_size / 1000:.1f} kB)."]
    saved = saved_in(target.read_bytes())
    told = job._view()
    assert (saved["row"], saved["quiz"], saved["insight"], saved["code"], saved["cost"]) == (
        told["job"],
        told["quiz"],
        told["insight"],
        told["code"],
        None,
    )
    steps = {e.payload.step: e.payload.loss for e in whole_run() if isinstance(e.payload, StepDone)}
    assert {step["step"]: step["loss"] for step in saved["view"]["steps"]} == steps, "of a repeated step, the later attempt"
    assert {**saved["view"], "steps": []} == json.loads(json.dumps(job.view))
    assert saved["metrics"]["series"]["step"] == [1, 2, 3, 4]
    assert [row["line"] for row in saved["rowLosses"]["data"]] == [1, 2, 3]
    assert [event["id"] for event in saved["events"]] == ["ftevent-1", "ftevent-2"], "oldest first"
    assert (saved["version"], saved["left_out"]) == (__version__, [])
    assert target.read_bytes().startswith(page_frame()[:1000])


def test_a_dash_is_standard_output_and_an_older_file_is_replaced_whole(tmp_path: Path) -> None:
    result = write(SavedJobApi(), "-")
    assert saved_in(result.stdout_bytes)["row"]["id"] == JOB
    assert result.stderr == ""
    target = tmp_path / "job.html"
    target.write_text("older")
    assert write(SavedJobApi(), target).exit_code == ExitCode.DONE
    assert saved_in(target.read_bytes())["row"]["id"] == JOB
    assert [path.name for path in tmp_path.iterdir()] == ["job.html"]


def test_a_large_job_stays_below_a_megabyte_and_says_what_is_missing(tmp_path: Path) -> None:
    target = tmp_path / "job.html"
    result = write(large_job(), target)
    assert result.exit_code == ExitCode.DONE, result.output
    assert target.stat().st_size <= MAX_BYTES == 1_000_000
    saved = saved_in(target.read_bytes())
    assert 0 < len(saved["metrics"]["series"]["step"]) <= 2000
    assert saved["metrics"]["bucket"] * len(saved["metrics"]["series"]["step"]) == pytest.approx(5000, rel=0.01)
    messages = [event["message"] for event in saved["events"] if event["type"] == "message"]
    assert messages == ["Created fine-tuning job", "The job has successfully completed"], "messages stay before metrics"
    assert saved["view"]["evaluation"]["n"] == 2000
    assert len(saved["view"]["evaluation"]["samples"]) >= 50
    assert saved["rowLosses"]["has_more"] is True
    shown = "\n".join(saved["left_out"])
    for part in (
        "5,000 single steps",
        "of 5,000 steps",
        "of 5,000 held-out points",
        "of 2,000 compared answers",
        "5,002 events",
        "rows with the highest loss",
    ):
        assert part in shown, part
    assert result.stderr.splitlines()[1:] == [f"Not in the page, or cut: {sentence}" for sentence in saved["left_out"]]


def test_limits_are_only_as_tight_as_the_size_asks(tmp_path: Path) -> None:
    job = large_job()
    with serving(job.api()) as url:
        client = pages_client(url)
        small, large = (pages.job_page(client, JOB, max_bytes=most) for most in (600_000, 3_000_000))
    assert len(small.content) <= 600_000 < len(large.content) <= 3_000_000
    assert len(saved_in(small.content)["events"]) < len(saved_in(large.content)["events"])
    assert all(len(saved_in(page.content)["view"]["epochs"]) == 2 for page in (small, large))


def pages_client(url: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{url}/v1", api_key="sk-x")


HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<!-- <script>",
    "\u202egnp.exe\u2066 אבג",
    "half a pair \ud83d and \udc00",
    "\u2028\u2029\x00\x1b[31m&lt;",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, text: str) -> None:
    job = SavedJobApi(suffix=text)
    job.events.append(event_row(3, text))
    job.view["evaluation"]["samples"][0]["tuned"] = text
    target = tmp_path / "job.html"
    assert write(job, target).exit_code == ExitCode.DONE
    content = target.read_bytes()
    saved = saved_in(content)
    assert saved["row"]["suffix"] == saved["events"][-1]["message"] == saved["view"]["evaluation"]["samples"][0]["tuned"] == text
    assert content.count(b"<script") == page_frame().count(b"<script")
    assert content.count(b"</script") == page_frame().count(b"</script")


def test_a_cut_never_makes_an_answer_right() -> None:
    """Two texts that differ only behind the cut are not shown as equal."""
    same = "a" * 30_000
    job = SavedJobApi()
    job.view["evaluation"]["samples"] = [
        {"prompt": "p", "expected": same + "b", "base": same + "c", "tuned": "other"},
        {"prompt": "p", "expected": same, "base": "other", "tuned": same},
    ]
    with serving(job.api()) as url:
        whole = pages.read_job(pages_client(url), JOB)
    saved = fitted(whole, lambda points: whole["metrics"], lambda plain: True)
    assert saved is not None
    (kept,) = saved["view"]["evaluation"]["samples"]
    assert kept["tuned"] == kept["expected"] == "a" * 20_000 + "… (+10,000 characters)"
    assert "1 of 2 compared answers are kept; the counts are of all." in saved["left_out"]
    assert whole["view"]["evaluation"]["samples"][0]["expected"] == same + "b", "the whole job is not changed"


def test_a_job_that_has_not_begun_is_a_page_too(tmp_path: Path) -> None:
    from luthier.trace.view import TraceView

    job = SavedJobApi(view={**TraceView().to_dict(), "steps": []}, num_steps=0, num_rows=0, num_validations=0, events=[])
    target = tmp_path / "job.html"
    assert write(job, target).exit_code == ExitCode.DONE
    saved = saved_in(target.read_bytes())
    assert (saved["events"], saved["metrics"]["steps"], saved["left_out"]) == ([], 0, [])


def test_a_prompt_is_traced_for_the_page_on_the_jobs_own_model(tmp_path: Path) -> None:
    assert write(SavedJobApi(), tmp_path / "without.html").exit_code == ExitCode.DONE
    assert saved_in((tmp_path / "without.html").read_bytes())["traced"] is None
    job, target = SavedJobApi(), tmp_path / "job.html"
    api = job.api()
    with serving(api) as url:
        assert luthier("trace", JOB, "--html", str(target), "--prompt", "Hi", url=url).exit_code == ExitCode.DONE
    saved = saved_in(target.read_bytes())
    assert saved["traced"]["layers"] == json.loads(json.dumps(sample_trace().to_dict()["layers"]))
    (asked,) = [body for _, path, body in api.requests if path == "/v1/luthier/trace"]
    assert (asked["model"], asked["messages"][0]["content"]) == (saved["row"]["fine_tuned_model"], "Hi")


def test_a_traced_prompt_goes_last_of_all_and_its_absence_is_said() -> None:
    with serving(SavedJobApi().api()) as url:
        page = pages.job_page(pages_client(url), JOB, traced={"text": "a" * 700_000})
    assert saved_in(page.content)["traced"] is None
    assert "The traced prompt did not fit: see luthier trace --prompt." in page.left_out


def test_a_model_without_a_prompt_is_refused(tmp_path: Path) -> None:
    assert write(SavedJobApi(), tmp_path / "job.html", "--model", "m").exit_code == ExitCode.USAGE
    assert not list(tmp_path.iterdir())


def test_troubles_are_one_sentence_and_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "job.html"
    with serving(SavedJobApi().api()) as url:
        unknown = luthier("trace", "ftjob-nope", "--html", str(target), url=url)
    assert unknown.exit_code == ExitCode.NOT_FOUND
    assert "ftjob-nope" in one_line(unknown)
    assert luthier("trace", "--html", str(target), url="http://127.0.0.1:9").exit_code == ExitCode.USAGE
    assert write(SavedJobApi(), tmp_path / "nowhere" / "job.html").exit_code == ExitCode.FAILED
    with serving(SavedJobApi().api()) as url, pytest.raises(pages.LuthierError, match="does not fit"):
        pages.job_page(pages_client(url), JOB, max_bytes=300_000)
    monkeypatch.setattr(pages, "package_files", lambda package: tmp_path)
    result = write(SavedJobApi(), target)
    assert result.exit_code == ExitCode.FAILED
    assert "make web" in one_line(result)
    assert not target.exists()
