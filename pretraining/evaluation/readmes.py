"""Writes measured tables into the READMEs of ``examples/``, after the mark ``<!-- measured -->``.

What it does: replace what stands between the mark and the next heading (or the end). What it does not: measure. Called by
``pretraining/evaluate.py`` with ``--write-readmes``.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretraining.evaluation import examples, reference
from pretraining.evaluation.method_tables import (
    FORMALITY_HEADERS,
    FORMALITY_WORDS,
    REWARD_HEADERS,
    REWARD_WORDS,
    formality_rows,
    reward_rows,
)
from pretraining.evaluation.results import Results
from pretraining.evaluation.supervised import RULE
from pretraining.evaluation.tables import percent, table

MARK = "<!-- measured -->"
_UNTIL_HEADING = re.compile(rf"{re.escape(MARK)}\n?.*?(?=^#{{1,6}} |\Z)", re.DOTALL | re.MULTILINE)


def write_readmes(folder: Path, results: Results) -> None:
    """Fill every README that has the mark and whose folder was measured, and say what was done with each.

    Args:
        folder: of the examples.
        results: the sections ``examples`` and ``reference`` are read, each if it is complete.
    """
    for readme in sorted(folder.glob("*/README.md")):
        name, text = readme.parent.name, readme.read_text(encoding="utf-8")
        section = reference.NAME if name == reference.FOLDER else examples.NAME
        measured = _measured(name, results.of(section))
        if MARK not in text:
            print(f"{name}/README.md: has no {MARK}, left as it is")
        elif measured is None:
            print(f"{name}/README.md: not measured, left as it is")
        else:
            readme.write_text(replaced(text, f"{_source(results, section)} {measured}"), encoding="utf-8")
            print(f"{name}/README.md: written")


def _source(results: Results, section: str) -> str:
    model, machine = results.model, results.machine_of(section)
    return (
        f"Measured with `python -m pretraining.evaluate --only {section}` on `{model['name']}` (revision `{model['revision'][:12]}`), "
        f"{machine['processor']}, {machine['cores']} cores."
    )


def replaced(text: str, measured: str) -> str:
    """The README with new words after its mark."""
    after = _UNTIL_HEADING.search(text)
    assert after is not None
    tail = "\n" if after.end() < len(text) else ""
    return f"{text[: after.start()]}{MARK}\n\n{measured}\n{tail}{text[after.end() :]}"


def _measured(name: str, stored: dict[str, Any]) -> str | None:
    """Words and a table, or None when the results have nothing on this folder."""
    if name == reference.FOLDER:
        return reference_table(stored)
    runs = [result for key, result in stored.items() if key.startswith(f"{name} seed ")]
    if not runs:
        return None
    if name == examples.PREFERENCES:
        return f"{FORMALITY_WORDS}\n\n{table(FORMALITY_HEADERS, formality_rows(runs))}"
    if name == examples.REWARDS:
        return f"{REWARD_WORDS}\n\n{table(REWARD_HEADERS, reward_rows(runs))}"
    words = f'LoRA, everything "auto". Base and tuned: right answers of the n rows of `valid.jsonl`, greedy ({RULE}).'
    return f"{words}\n\n{table(examples.RUN_HEADERS, examples.run_rows(stored[f'{name} base'], runs))}"


def reference_table(stored: dict[str, Any]) -> str | None:
    """The demonstration's runs in words and a table; None when none was measured."""
    runs = [result for key, result in stored.items() if key != "base"]
    if not runs:
        return None
    headers = (
        "method",
        "seed",
        "epoch 1 loss / accuracy",
        "epoch 5 loss / accuracy",
        "held-out loss after",
        "phrases, base",
        "tuned",
        "seconds",
    )
    rows = [_reference_row(stored["base"], one) for one in runs]
    sizes = runs[0]["run"]["n_train"], runs[0]["phrases"]["n"]
    words = f'{sizes[0]} rows, five epochs, everything else "auto". Phrases: {sizes[1]} everyday ones, greedy, exactly right.'
    return f"{words}\n\n{table(headers, rows)}"


def _reference_row(base: dict[str, Any], one: dict[str, Any]) -> Sequence[object]:
    run, first, last = one["run"], one["run"]["epochs"][0], one["run"]["epochs"][-1]
    losses = [f"{epoch['train_loss']:.2f} / {epoch['train_accuracy']:.2f}" for epoch in (first, last)]
    phrases = [percent(result["phrases"]["right"] / result["phrases"]["n"]) for result in (base, one)]
    return [run["method"], run["seed"], *losses, f"{last['valid_loss']:.2f}", *phrases, f"{run['seconds']:.1f}"]
