"""Section ``reference``: the run that the demonstration shows, on ``examples/translate-en-fr``, LoRA and full, beside its bounds.

What it does: five epochs with the product's own decisions, the epoch table, everyday phrases and held-out sentences asked of base and
tuned model, PASS or FAIL beside every bound. What it does not: choose a setting. Called by ``pretraining/evaluate.py``.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from luthier.chat.renderer import Renderer
from luthier.core.specs import Hyperparameters, TuningMethod
from luthier.models.language_model import LanguageModel
from luthier.models.load import load_model
from pretraining.evaluation.base_model import PAIRS_FILE, heldout_pairs
from pretraining.evaluation.generate import chat_prompt, greedy_answers
from pretraining.evaluation.options import Options, missing_files, read_rows
from pretraining.evaluation.results import Section
from pretraining.evaluation.statistics import is_right
from pretraining.evaluation.tables import percent, seeds_of, show, verdict
from pretraining.evaluation.tune import num_threads, tune

NAME = "reference"
FOLDER = "translate-en-fr"
EPOCHS = 5
_TASK = "Translate to French: "
_MAX_ANSWER_TOKENS = 24
_NUM_FIRST = 25
_NUM_HELD_OUT = 100
_MOST_WORDS = 5
_SAMPLE_SEED = 20261124


@dataclass(frozen=True, slots=True)
class Asked:
    """Phrases with their accepted answers. Texts of ``heldout`` are the corpus's and are never written to the results file."""

    phrases: list[dict[str, Any]]
    heldout: list[dict[str, Any]]


def missing(options: Options) -> list[str]:
    """What keeps this section from running, as sentences."""
    sentences = missing_files(options.corpus, [PAIRS_FILE], section=NAME, option="--corpus")
    sentences += missing_files(options.examples / FOLDER, ["train.jsonl", "valid.jsonl"], section=NAME, option="--examples")
    return sentences + missing_files(options.phrases.parent, [options.phrases.name], section=NAME, option="the package's own data")


def run(options: Options, section: Section) -> None:
    """Measure and print."""
    assert options.corpus is not None
    asked = Asked(options.cut(read_rows(options.phrases)), options.cut(_heldout(options.corpus)))
    base = section.measured("base", lambda: _ask_base(options.model, asked))
    for method in (TuningMethod.LORA, TuningMethod.FULL):
        runs = [
            section.measured(f"{method.value} seed {seed}", lambda m=method, s=seed: _train_and_ask(options, m, s, asked))
            for seed in options.seeds
        ]
        for one in runs:
            _show_epochs(one)
        _show_bounds(method, base, runs)


def _heldout(folder: Path) -> list[dict[str, Any]]:
    """Held-out sentences of at most five words, drawn once, with every translation that the corpus has for them."""
    pairs, variants = heldout_pairs(folder)
    short = [pair for pair in pairs if len(pair.en.split()) <= _MOST_WORDS]
    drawn = random.Random(_SAMPLE_SEED).sample(short, min(_NUM_HELD_OUT, len(short)))
    return [{"phrase": pair.en, "answers": variants[pair.en]} for pair in drawn]


def _ask_base(folder: Path, asked: Asked) -> dict[str, Any]:
    model = load_model(folder)
    torch.set_num_threads(num_threads(model))
    return _ask(model, Renderer.load(folder), None, asked)


def _train_and_ask(options: Options, method: TuningMethod, seed: int, asked: Asked) -> dict[str, Any]:
    with options.example_files(FOLDER) as (train, valid):
        tuned = tune(options.model, train, valid, seed=seed, method=method, hyperparameters=Hyperparameters(n_epochs=EPOCHS))
    return {"run": tuned.facts} | _ask(tuned.model, Renderer.load(options.model), tuned.adapter, asked)


def _ask(model: LanguageModel, renderer: Renderer, adapter: str | None, asked: Asked) -> dict[str, Any]:
    hits, answers = _answers(model, renderer, adapter, asked.phrases)
    heldout, _ = _answers(model, renderer, adapter, asked.heldout)
    wrong = [{"phrase": row["phrase"], "answer": answer} for row, answer, hit in zip(asked.phrases, answers, hits, strict=True) if not hit]
    return {
        "phrases": {"n": len(hits), "right": sum(hits), "wrong": wrong},
        "first_phrases": {"n": len(hits[:_NUM_FIRST]), "right": sum(hits[:_NUM_FIRST])},
        "heldout": {"n": len(heldout), "right": sum(heldout)},
    }


def _answers(model: LanguageModel, renderer: Renderer, adapter: str | None, rows: Sequence[dict[str, Any]]) -> tuple[list[bool], list[str]]:
    prompts = [chat_prompt(renderer, _TASK + row["phrase"]) for row in rows]
    answers = greedy_answers(model, renderer, prompts, max_tokens=_MAX_ANSWER_TOKENS, adapter=adapter)
    return [is_right(answer, row["answers"]) for answer, row in zip(answers, rows, strict=True)], answers


def _show_epochs(result: dict[str, Any]) -> None:
    run = result["run"]
    show(
        f"{run['method']} seed {run['seed']}: batch {run['batch_size']}, peak rate {run['learning_rate']:.2e}, {run['n_train']} training "
        f"and {run['n_valid']} held-out rows, {run['threads']} thread(s), {run['seconds']:.1f} s; base on the held-out rows: loss "
        f"{run['base_loss']:.3f}, accuracy {run['base_accuracy']:.3f}",
        ["epoch", "train loss", "train accuracy", "held-out loss", "held-out accuracy", "seconds"],
        [
            [
                e["epoch"],
                *(f"{e[key]:.3f}" for key in ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")),
                f"{e['seconds']:.1f}",
            ]
            for e in run["epochs"]
        ],
    )


def bounds(base: dict[str, Any], result: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each bound of one run: what it says, what was measured, whether it holds."""
    epochs = result["run"]["epochs"]
    first, last = epochs[0], epochs[-1]
    losses, accuracies = [e["train_loss"] for e in epochs], [e["train_accuracy"] for e in epochs]
    early, phrases = base["first_phrases"], result["phrases"]
    share = phrases["right"] / phrases["n"]
    return [
        ("epoch 1 mean loss in [0.9, 1.6]", f"{first['train_loss']:.3f}", 0.9 <= first["train_loss"] <= 1.6),
        ("epoch 1 accuracy in [0.5, 0.75]", f"{first['train_accuracy']:.3f}", 0.5 <= first["train_accuracy"] <= 0.75),
        (f"epoch {EPOCHS} mean loss <= 0.35", f"{last['train_loss']:.3f}", last["train_loss"] <= 0.35),
        (f"epoch {EPOCHS} accuracy >= 0.90", f"{last['train_accuracy']:.3f}", last["train_accuracy"] >= 0.9),
        ("loss falls every epoch", _chain(losses), _rises([-loss for loss in losses])),
        ("accuracy rises every epoch", _chain(accuracies), _rises(accuracies)),
        (f"base right on <= 2 of the first {_NUM_FIRST} phrases", f"{early['right']} of {early['n']}", early["right"] <= 2),
        ("tuned right on >= 80 % of the phrases", f"{phrases['right']} of {phrases['n']} ({percent(share)})", share >= 0.8),
        ("training <= 45 s", f"{result['run']['seconds']:.1f} s", result["run"]["seconds"] <= 45),
    ]


def _show_bounds(method: TuningMethod, base: dict[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    seeds = [one["run"]["seed"] for one in runs]
    columns = [bounds(base, one) for one in runs]
    show(
        f"{method.value}, seeds {seeds_of(seeds)}: bounds",
        ["bound", *(f"seed {seed}" for seed in seeds)],
        [[row[0][0], *(f"{verdict(holds)} {value}" for _, value, holds in row)] for row in zip(*columns, strict=True)],
    )
    names = (("phrases", "everyday phrases"), ("first_phrases", f"the first {_NUM_FIRST} of them"), ("heldout", "held-out sentences"))
    show(
        f"{method.value}, seeds {seeds_of(seeds)}: exactly right under {_TASK!r}, greedy",
        ["asked", "n", "base", *(f"tuned, seed {seed}" for seed in seeds)],
        [[title, base[key]["n"], base[key]["right"], *(one[key]["right"] for one in runs)] for key, title in names],
    )


def _rises(values: Sequence[float]) -> bool:
    return all(later > earlier for earlier, later in pairwise(values))


def _chain(values: Sequence[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)
