"""Section ``examples``: every folder of ``examples/`` tuned with everything on "auto", beside the base, on its held-out rows.

What it does: LoRA on the supervised folders, preferences on ``formality-dpo``, rewards on ``word-sentence-rft``, once per seed. What it
does not: measure ``translate-en-fr`` (``reference.py`` does). Called by ``pretraining/evaluate.py``; its results also fill the
READMEs (``readmes.py``).
"""

from collections.abc import Sequence
from typing import Any

from pretraining.evaluation.method_tables import show_formality, show_rewards
from pretraining.evaluation.options import Options, missing_files
from pretraining.evaluation.preference import measure_formality_example
from pretraining.evaluation.reinforcement import Settings, measure_example
from pretraining.evaluation.results import Section
from pretraining.evaluation.statistics import paired_bootstrap, share, unpack_hits
from pretraining.evaluation.supervised import RULE, ask_base, tune_and_ask
from pretraining.evaluation.tables import percent, seeds_of, show

NAME = "examples"
SUPERVISED = ("sentiment-label", "intent-label", "extract-json", "tool-call")
PREFERENCES = "formality-dpo"
REWARDS = "word-sentence-rft"
RUN_HEADERS = ("seed", "n train", "epochs", "batch", "n", "base", "tuned", "seconds")


def missing(options: Options) -> list[str]:
    """What keeps this section from running, as sentences."""
    sentences = []
    for name in (*SUPERVISED, PREFERENCES):
        sentences += missing_files(options.examples / name, ["train.jsonl", "valid.jsonl"], section=NAME, option="--examples")
    files = ["train.jsonl", "valid.jsonl", "grader.json"]
    return sentences + missing_files(options.examples / REWARDS, files, section=NAME, option="--examples")


def run(options: Options, section: Section) -> None:
    """Measure and print."""
    for name in SUPERVISED:
        _supervised(options, section, name)
    with options.example_files(PREFERENCES) as (train, _):
        formality = [
            section.measured(f"{PREFERENCES} seed {seed}", lambda s=seed: measure_formality_example(options.model, train.parent, s))
            for seed in options.seeds
        ]
    show_formality(PREFERENCES, formality)
    settings = Settings() if options.limit is None else Settings(steps=2, num_valid=options.limit)
    rewards = [
        section.measured(
            f"{REWARDS} seed {seed}", lambda s=seed: measure_example(options.model, options.examples / REWARDS, s, settings=settings)
        )
        for seed in options.seeds
    ]
    show_rewards(REWARDS, rewards)


def _supervised(options: Options, section: Section, name: str) -> None:
    with options.example_files(name) as (train, valid):
        base = section.measured(f"{name} base", lambda: ask_base(options.model, valid))
        runs = [
            section.measured(f"{name} seed {seed}", lambda s=seed: tune_and_ask(options.model, train, valid, seed=s, valid=valid))
            for seed in options.seeds
        ]
    show(f"{name}: right answers of n held-out rows, greedy ({RULE}); LoRA, everything auto", RUN_HEADERS, run_rows(base, runs))
    gain = paired_bootstrap([unpack_hits(one) for one in runs], [unpack_hits(base)])
    print(f"tuned - base, points with a 95 % interval over the rows, seeds {seeds_of(options.seeds)}: {gain}", flush=True)


def run_rows(base: dict[str, Any], runs: Sequence[dict[str, Any]]) -> list[list[object]]:
    """One row per seed under ``RUN_HEADERS``; seconds are those of training."""
    rows: list[list[object]] = []
    for one in runs:
        run = one["run"]
        shares = [percent(share(base)), percent(share(one))]
        rows.append([run["seed"], run["n_train"], run["n_epochs"], run["batch_size"], one["n"], *shares, f"{run['seconds']:.1f}"])
    return rows
