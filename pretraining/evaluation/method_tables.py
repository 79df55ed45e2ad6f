"""The results of preference tuning and of tuning by rewards as tables: one row per seed, then differences with intervals.

What it does not: train, count forms of address or grade (``preference.py`` and ``reinforcement.py`` do). Called by ``tasks.py``,
``examples.py`` and ``readmes.py``.
"""

from collections.abc import Sequence
from typing import Any

from pretraining.evaluation.statistics import paired_bootstrap
from pretraining.evaluation.tables import percent, seeds_of, show, table, verdict

_MODELS = ("base", "sft", "tuned")
_DPO = ("loss_at_step_0", "loss_last", "margin_last", "accuracy_last", "test_loss", "test_margin", "test_accuracy")
_KINDS = ("greedy", "sampled")
FORMALITY_HEADERS = ("seed", "n train", "n", *(f"vous, {m}" for m in _MODELS), *(f"chrF2, {m}" for m in _MODELS), "seconds")
FORMALITY_WORDS = (
    "Share of *vous* among the greedy answers that show one form of address, and how many those are; chrF2 against both answers."
)
REWARD_HEADERS = (
    "seed",
    "n train",
    "n",
    *(f"{kind}, {m}" for kind in _KINDS for m in ("base", "tuned")),
    "steps",
    "kl",
    "skipped",
    "seconds",
)
REWARD_WORDS = "Mean reward of greedy and of sampled answers; KL to the base at the end, nats per token; groups without spread are skipped."


def formality_rows(runs: Sequence[dict[str, Any]]) -> list[list[object]]:
    """One row per result of ``preference.measure_formality`` under ``FORMALITY_HEADERS``."""
    rows: list[list[object]] = []
    for run in runs:
        shares = [
            "-" if run[name]["vous_share"] is None else f"{percent(run[name]['vous_share'])} of {run[name]['num_showing_one_form']}"
            for name in _MODELS
        ]
        chrf = [f"{run[name]['chrf']:.1f}" for name in _MODELS]
        rows.append([run["seed"], run["num_train"], run["num_test"], *shares, *chrf, f"{run['seconds']:.0f}"])
    return rows


def show_formality(title: str, runs: Sequence[dict[str, Any]]) -> None:
    """Print the answers' forms, the course of the preference steps, and the differences."""
    show(f"{title}. {FORMALITY_WORDS}", FORMALITY_HEADERS, formality_rows(runs))
    rows = [[run["seed"], run["dpo"]["steps"], *(f"{run['dpo'][name]:.4f}" for name in _DPO)] for run in runs]
    print(table(["seed", "steps", *(name.replace("_", " ") for name in _DPO)], rows))
    for run in runs:
        gains = {other: paired_bootstrap(_scores([run], "tuned_vous"), _scores([run], f"{other}_vous")) for other in ("base", "sft")}
        above = all(gain is None or gain.low > 0 for gain in gains.values()) and gains["sft"] is not None
        kept = run["tuned"]["chrf"] >= run["sft"]["chrf"]
        print(f"{verdict(above)} seed {run['seed']}: *vous* tuned - base {gains['base']}, tuned - sft {gains['sft']}")
        print(f"{verdict(kept)} seed {run['seed']}: chrF2 {run['sft']['chrf']:.1f} -> {run['tuned']['chrf']:.1f}, not falling")
    for other in ("base", "sft"):
        interval = paired_bootstrap(_scores(runs, "tuned_vous"), _scores(runs, f"{other}_vous"))
        _show_difference(f"tuned - {other}, points of the *vous* share", runs, interval)


def reward_rows(runs: Sequence[dict[str, Any]]) -> list[list[object]]:
    """One row per result of ``reinforcement.measure_example`` under ``REWARD_HEADERS``."""
    rows: list[list[object]] = []
    for run in runs:
        rewards = [f"{run[model][f'{kind}_reward']:.3f}" for kind in _KINDS for model in ("base", "tuned")]
        steps = run["training"]
        skipped = f"{steps['groups_skipped']} of {steps['groups']}"
        rows.append([run["seed"], run["num_train"], run["num_valid"], *rewards, steps["steps"], f"{steps['kl_last']:.3f}", skipped])
        rows[-1].append(f"{run['seconds']:.0f}")
    return rows


def show_rewards(title: str, runs: Sequence[dict[str, Any]]) -> None:
    """Print the rewards, what stands in the way of learning, and the differences."""
    show(f"{title}. {REWARD_WORDS}", REWARD_HEADERS, reward_rows(runs))
    for note in sorted({run["note"] for run in runs if run["note"]}):
        print(note)
    for kind in _KINDS:
        interval = paired_bootstrap(_scores(runs, f"tuned_{kind}"), _scores(runs, f"base_{kind}"))
        _show_difference(f"tuned - base, hundredths of the {kind} reward", runs, interval)


def _scores(runs: Sequence[dict[str, Any]], key: str) -> list[list[float | None]]:
    return [[row[key] for row in run["rows"]] for run in runs]


def _show_difference(what: str, runs: Sequence[dict[str, Any]], interval: object) -> None:
    seeds = seeds_of([run["seed"] for run in runs])
    print(f"\n{what} with a 95 % interval over the prompts, seeds {seeds}: {interval or '-'}", flush=True)
