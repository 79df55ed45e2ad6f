"""Whatever a sound row holds, its page is plain text, and its tokens are all of the row's text, each counted once."""

import json
import unicodedata
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from luthier.cli.render.row_tokens import page
from luthier.data.validate import Method
from luthier.worker.row_preview import load_reader, preview_lines
from tests.support.tiny_models import mini_folder

READER = load_reader(mini_folder(), asked_length=None)
SHORT = load_reader(mini_folder(), asked_length=9)
NASTY = st.sampled_from(
    ["\x1b[2J", "\x00", "\u202e", "\u2028", "\ufeff", "<|end|>", "<|user|>", "[red]", "│", "²", "\ue000", "\U0001f9d1\u200d\U0001f680"]
)
TEXT = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | NASTY, min_size=1, max_size=5).map("".join).filter(bool)
MORE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@st.composite
def rows(draw: st.DrawFn) -> tuple[dict[str, Any], Method]:
    """A sound row of one of the kinds, and its method."""
    kind = draw(st.sampled_from(["chat", "prompt_completion", "preference", "reinforcement"]))
    asked = [_said("user", draw(TEXT)), _said("assistant", draw(TEXT), weight=draw(st.sampled_from([0, 1]))), _said("user", draw(TEXT))]
    if kind == "chat":
        return {"messages": [*asked, _said("assistant", draw(TEXT))]}, "supervised"
    if kind == "prompt_completion":
        return {"prompt": draw(TEXT), "completion": draw(TEXT)}, "supervised"
    if kind == "preference":
        outputs = {name: [_said("assistant", draw(TEXT))] for name in ("preferred_output", "non_preferred_output")}
        return {"input": {"messages": asked}, **outputs}, "dpo"
    return {"messages": asked, "reference": draw(TEXT)}, "reinforcement"


@MORE
@given(row=rows(), ids=st.booleans())
def test_a_page_is_plain_text_and_counts_add_up(row: tuple[dict[str, Any], Method], ids: bool, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row[0]) + "\n")
    for reader in (READER, SHORT):
        (shown,) = preview_lines(path, [1], reader, method=row[1], max_line_bytes=1 << 20)
        console = Console(width=100, highlight=False, force_terminal=False)
        with console.capture() as captured:
            for part in page(shown, {"name": "m"}, ids=ids):
                console.print(part)
        assert all(mark.isprintable() or mark == "\n" or unicodedata.category(mark) == "Zs" for mark in captured.get())
        for sequence in shown["sequences"]:
            kinds = [token["kind"] for token in sequence["tokens"]]
            assert {kind: kinds.count(kind) for kind in ("trained", "context", "special", "truncated")} == {
                kind: sequence[f"num_{kind}"] for kind in ("trained", "context", "special", "truncated")
            }
            assert sequence["num_tokens"] == min(len(kinds), shown["max_length"])


@MORE
@given(row=rows())
def test_the_tokens_are_the_text_of_the_row(row: tuple[dict[str, Any], Method], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row[0]) + "\n")
    (shown,) = preview_lines(path, [1], READER, method=row[1], max_line_bytes=1 << 20)
    for sequence in shown["sequences"]:
        text = b"".join(bytes(token["bytes"]) for token in sequence["tokens"]).decode()
        messages = row[0].get("messages") or row[0].get("input", {}).get("messages") or [_said("user", row[0].get("prompt", ""))]
        if sequence["name"] in ("preferred", "non_preferred"):
            messages = [*messages, row[0][f"{sequence['name']}_output"][0]]
        elif "completion" in row[0]:
            messages = [*messages, _said("assistant", row[0]["completion"])]
        said = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)
        assert text == (said + "<|assistant|>" if sequence["name"] == "prompt" else said)
