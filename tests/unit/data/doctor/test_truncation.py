"""Rows that are longer than a base reads: counted in its own tokens, all of them or a sample, and what its template refuses."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import luthier
from luthier.chat.renderer import Renderer
from luthier.core.doctor_report import Weight
from luthier.core.errors import InvalidRequest
from luthier.data.doctor import truncation
from luthier.data.doctor.truncation import Base
from tests.support.doctor_files import chat, clean_rows, codes, examined, found

MINI = Path(luthier.__file__).parent / "models" / "builtin" / "luthier-mini"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer.load(MINI)


def _base(renderer: Any, max_length: int) -> Base:
    return Base(name="mini", renderer=renderer, max_length=max_length)


def _tokens(renderer: Renderer, row: dict) -> tuple[int, np.ndarray]:
    from luthier.core.conversation import conversation_of

    rendered = renderer.example(conversation_of(row["messages"]))
    return len(rendered.ids_T), rendered.weights_T


def test_every_long_row_is_counted_with_what_it_loses(tmp_path, renderer):
    rows = [*clean_rows(12), chat("Tell me all", "word " * 600), chat("word " * 600, "no room for this")]
    rows[2] = chat("Tell me more", "word " * 520)
    report = examined(tmp_path, rows, bases=[_base(renderer, 512)])
    finding = found(report, "truncated")
    assert (finding.count, finding.lines, finding.weight, finding.measured_on) == (3, (3, 13, 14), Weight.SERIOUS, None)
    measured = [_tokens(renderer, rows[index]) for index in (2, 12, 13)]
    assert finding.examples[0] == f"line 14: {measured[2][0]:,} tokens"
    trained = sum(int((weights > 0).sum()) for _, weights in measured)
    lost = sum(int((weights[512:] > 0).sum()) for _, weights in measured)
    statistics = report.statistics["models"]["mini"]
    assert (statistics["trained_tokens_of_longer_rows"], statistics["trained_tokens_lost"]) == (trained, lost)
    assert (statistics["rows_longer"], statistics["rows_without_trained_token"]) == (3, 1)
    assert f"they lose {100 * lost / trained:.0f} % of their trained tokens, and 1 row has no trained token left" in finding.finding


def test_the_limit_itself_is_not_too_long(tmp_path, renderer):
    rows = clean_rows(10)
    longest = max(_tokens(renderer, row)[0] for row in rows)
    assert "truncated" not in codes(examined(tmp_path, rows, bases=[_base(renderer, longest)]))
    assert found(examined(tmp_path, rows, bases=[_base(renderer, longest - 1)]), "truncated").count >= 1


def test_a_sample_says_how_large_it_is(tmp_path, renderer, monkeypatch):
    monkeypatch.setattr(truncation, "SAMPLE_BYTES", 3000)
    rows = [*clean_rows(20), *(chat(f"number {i}", f"{i} word " * 40) for i in range(20))]
    report = examined(tmp_path, rows, bases=[_base(renderer, 64)])
    finding = found(report, "truncated")
    assert finding.measured_on is not None
    assert 0 < finding.measured_on < 40
    assert finding.finding.startswith("About ")
    assert finding == found(examined(tmp_path, rows, bases=[_base(renderer, 64)]), "truncated")
    assert report.statistics["models"]["mini"]["rows_tokenised"] == finding.measured_on


def test_short_rows_are_not_tokenised(tmp_path, renderer):
    report = examined(tmp_path, [chat(f"q {i}", f"a {i}") for i in range(12)], bases=[_base(renderer, 512)])
    assert report.statistics["models"]["mini"]["rows_tokenised"] == 0
    assert "truncated" in report.checks
    assert "truncated" in examined(tmp_path, clean_rows(12)).skipped


def test_preferences_and_reinforcement_rows_are_measured_as_jobs_read_them(tmp_path, renderer):
    outputs = {
        "preferred_output": [{"role": "assistant", "content": "short"}],
        "non_preferred_completion": [{"role": "assistant", "content": "word " * 600}],
    }
    pairs = [{"input": {"messages": [{"role": "user", "content": f"q {i}"}]}, **outputs} for i in range(10)]
    finding = found(examined(tmp_path, pairs, bases=[_base(renderer, 512)]), "truncated")
    assert finding.count == 10
    asked = [{"messages": [{"role": "user", "content": f"{i} " + "word " * 600}], "answer": i} for i in range(10)]
    finding = found(examined(tmp_path, asked, bases=[_base(renderer, 512)], method="reinforcement"), "truncated")
    assert "leave no room for an answer" in finding.finding


class _Strict:
    """A template that takes no two messages of the user in a row."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def example(self, conversation: Any, row_format: str) -> Any:
        roles = [message.role for message in conversation.messages]
        if any(one == other for one, other in pairwise(roles)):
            raise InvalidRequest("Roles must take turns.")
        return self._renderer.example(conversation, row_format)


def test_a_refusal_of_the_template_is_found_in_short_rows_too(tmp_path, renderer):
    odd = {"messages": [{"role": role, "content": "hi"} for role in ("user", "user", "assistant")]}
    report = examined(tmp_path, [*clean_rows(12), odd], bases=[_base(_Strict(renderer), 512)])
    finding = found(report, "template_refuses")
    assert (finding.count, finding.lines, finding.weight) == (1, (13,), Weight.SERIOUS)
    assert finding.finding.endswith("Roles must take turns.")


def test_two_models_are_told_apart(tmp_path, renderer):
    rows = [chat(f"number {i}", f"{i} word " * 40) for i in range(10)]
    short, long = _base(renderer, 32), Base(name="long", renderer=renderer, max_length=4096)
    report = examined(tmp_path, rows, bases=[short, long])
    assert [finding.finding.split(" trains")[0].split()[-1] for finding in report.findings if finding.code == "truncated"] == ["mini"]
    assert report.statistics["models"]["long"]["rows_longer"] == 0
