"""The model inside the package: its size, its card's credits and licence, its template."""

import json
from pathlib import Path

from luthier.core.settings import PACKAGE_DIR
from pretraining.card import card
from pretraining.evaluation.results import Results
from pretraining.record import read_record

MINI = PACKAGE_DIR / "models" / "builtin" / "luthier-mini"
ROOT = Path(__file__).resolve().parents[3]
CREDITS = (
    "tatoeba.org",
    "www.manythings.org/anki",
    "Unicode CLDR",
    "African Storybook",
    "ATTRIBUTION_storybooks.tsv",
    "Common Voice",
    "public domain",
)


def test_package_data_stays_small() -> None:
    assert sum(path.stat().st_size for path in MINI.rglob("*") if path.is_file()) <= 25_000_000


def test_the_card_credits_every_source_and_names_one_licence() -> None:
    card = (MINI / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert all(credit in card for credit in CREDITS)
    assert "BY-SA" not in card
    assert "BY-SA" not in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert (MINI / "ATTRIBUTION_storybooks.tsv").stat().st_size > 10_000


def test_the_card_says_on_which_path_the_weights_were_made() -> None:
    card = (MINI / "README.md").read_text(encoding="utf-8")
    assert ("on the CPU path" in card) != ("on the GPU path" in card)


def test_the_results_are_those_of_the_packaged_weights() -> None:
    from luthier.models.facts import read_facts

    results = json.loads((ROOT / "pretraining" / "results.json").read_text(encoding="utf-8"))
    assert results["model"]["revision"] == read_facts(MINI).revision
    assert all(results["sections"][name]["complete"] for name in ("base", "reference", "tasks", "examples", "speed"))


def test_the_card_is_made_from_the_committed_record_and_results() -> None:
    made = card(read_record(ROOT / "pretraining" / "run.json"), MINI, Results.read(ROOT / "pretraining" / "results.json"))
    assert made == (MINI / "README.md").read_text(encoding="utf-8"), "run python -m pretraining.card (pretraining/README.md, step 6)"


def test_the_template_renders_tools_and_calls() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MINI)
    tool = {
        "type": "function",
        "function": {
            "name": "set_timer",
            "description": "Set a timer.",
            "parameters": {"type": "object", "properties": {"minutes": {}, "label": {}}},
        },
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "set_timer", "arguments": '{"minutes": 5}'}}
    text = tokenizer.apply_chat_template(
        [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": "five minutes"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "ok", "tool_call_id": "call_1"},
        ],
        tools=[tool],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert text == (
        "<|tool|>set_timer(minutes, label): Set a timer.<|end|><|system|>Be short.<|end|><|user|>five minutes<|end|>"
        '<|assistant|><|tool_call|>{"name": "set_timer", "arguments": {"minutes": 5}}<|end|><|tool|>ok<|end|><|assistant|>'
    )
