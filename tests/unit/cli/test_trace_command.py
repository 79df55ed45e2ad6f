"""``luthier trace``: against a fake API, as a user would call it."""

import pytest
from click.testing import CliRunner, Result

from luthier.cli.trace import trace
from luthier.core.errors import InvalidRequest, NotFound, Unavailable
from tests.support.fake_server import FakeApi, serving
from tests.support.trace_logs import FINAL, whole_run


def run(api: FakeApi, *arguments: str) -> Result:
    with serving(api) as url:
        return CliRunner(env={"COLUMNS": "100"}).invoke(trace, [*arguments, "--url", url, "--api-key", "sk-x"])


def test_all_pages_become_one_report() -> None:
    api = FakeApi(whole_run(), lambda model, text: "")
    result = run(api, "ftjob-abc")
    assert result.exit_code == 0, result.output
    assert sum(path.endswith("/trace") for _, path, _ in api.requests) == -(-len(whole_run()) // api.page_size)
    for part in ("Data collection", "Training trace", "2/2", "Prediction trace", FINAL):
        assert part in result.output


def test_follow_prints_the_epochs_and_then_the_report() -> None:
    result = run(FakeApi(whole_run(), lambda model, text: ""), "ftjob-abc", "--follow")
    assert result.exit_code == 0, result.output
    assert result.output.index("epoch 1/2  train 2.50 / 0.70  held out 1.25 / 0.80") < result.output.index("Data flow")
    assert "epoch 2/2" in result.output


@pytest.mark.parametrize("arguments", [("ftjob-abc",), ("--model", FINAL)])
def test_a_prompt_is_looked_into_on_base_and_tuned(arguments: tuple[str, ...]) -> None:
    api = FakeApi([], lambda model, text: "", tuned=FINAL)
    result = run(api, *arguments, "--prompt", "Hi")
    assert result.exit_code == 0, result.output
    for part in (
        "Bonjour",
        "English",
        "0.600",
        "logit lens",
        "never",
        "+4.00",
        "similar, not proof",
        "B: A sample.",
        "Attention of layer 1",
    ):
        assert part in result.output, part
    (asked,) = [body for _, path, body in api.requests if path.endswith("/luthier/trace")]
    assert (asked["model"], asked["messages"], asked["tiers"]) == (FINAL, [{"role": "user", "content": "Hi"}], ["A", "B", "C"])


@pytest.mark.parametrize("arguments", [(), ("--prompt", "Hi")])
def test_something_must_be_named(arguments: tuple[str, ...]) -> None:
    assert isinstance(run(FakeApi([], lambda model, text: ""), *arguments).exception, InvalidRequest)


def test_a_job_without_a_model_cannot_be_asked() -> None:
    result = run(FakeApi([], lambda model, text: "", status="running"), "ftjob-abc", "--prompt", "Hi")
    assert isinstance(result.exception, InvalidRequest)
    assert "neither a model nor a checkpoint" in result.exception.message


def test_an_unknown_job_is_one_sentence() -> None:
    result = run(FakeApi([], lambda model, text: ""), "ftjob-nope")
    assert isinstance(result.exception, NotFound)
    assert "ftjob-nope" in result.exception.message


def test_no_server_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai.DEFAULT_MAX_RETRIES", 0)
    result = CliRunner().invoke(trace, ["ftjob-abc", "--url", "http://127.0.0.1:9", "--api-key", "sk-x"])
    assert isinstance(result.exception, Unavailable)
    assert result.exception.message == "No server answers at http://127.0.0.1:9. Start one with: luthier serve"
