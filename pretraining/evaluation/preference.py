"""Direct preference optimisation (Rafailov and others, 2023, arXiv:2305.18290) with LoRA, and what it does to *vous* and *tu*.

What it does: a short supervised step on a neutral mixture of both answers, then DPO on the same adapter; greedy answers of the base, after
the first step and after the second. What it does not: serve jobs; the product's own engine for this method is another program. Called by
the evaluation of the base model and by hand:

    python -m pretraining.evaluation.preference MODEL_DIR ROWS_FILE_OR_EXAMPLE_DIR --seed 1

The reference is the policy as it stands when DPO begins; its log-probabilities are computed once. On a fresh adapter that is the base with
the adapter off; after the supervised step it is the supervised model, as in the paper.

Axis letters: B pairs of a batch, R pairs of a file.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.models.language_model import LanguageModel
from luthier.preprocessing.batches import epoch_order
from pretraining.errors import PretrainingError, run_script
from pretraining.evaluation.formality import form_of, shown_forms
from pretraining.evaluation.options import read_rows
from pretraining.evaluation.policy import Exchange, Policy, Tuner, answer_logprobs, total_logprobs

BETA = 0.1
SPLIT_SEED = 20230529
"""Of the split by prompt, the same for every training seed: seeds then differ in training alone."""
MAX_NEW_TOKENS = 48
_SCORED_TOGETHER = 32
_MODELS = ("base", "sft", "tuned")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How both steps train. Rates are peaks."""

    batch_size: int = 8
    sft_epochs: int = 1
    sft_rate: float = 1e-3
    dpo_epochs: int = 1
    dpo_rate: float = 7e-5


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a preference file: what is asked, and two answers."""

    messages: tuple[dict[str, Any], ...]
    preferred: str
    non_preferred: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt as tokens."""

    preferred: Exchange
    non_preferred: Exchange


@dataclass(frozen=True, slots=True)
class Preference:
    """How a policy sees pairs beside its reference; means over pairs."""

    loss: float
    margin: float
    """Reward of the preferred answer minus that of the other; a reward is beta times the log-ratio to the reference, nats."""
    accuracy: float
    """Share of pairs whose margin is positive; one of exactly 0, as all are before the first step, counts half."""


def _preference(losses_B: Tensor, margins_B: Tensor) -> Preference:
    right_B = (margins_B.detach().sign() + 1) / 2
    return Preference(float(losses_B.detach().mean()), float(margins_B.detach().mean()), float(right_B.mean()))


def dpo_losses(policy_2B: Tensor, reference_2B: Tensor, beta: float = BETA) -> tuple[Tensor, Tensor]:
    """The loss and the margin of each pair.

    Args:
        policy_2B: (2, B) log-probabilities (nats) of whole answers: preferred ones first.
        reference_2B: the same under the reference, without gradients.
        beta: how dearly leaving the reference is paid.

    Returns:
        (B,) losses (ln 2 where the policy is the reference) and (B,) margins.
    """
    rewards_2B = beta * (policy_2B - reference_2B)
    margins_B = rewards_2B[0] - rewards_2B[1]
    return -functional.logsigmoid(margins_B), margins_B


def pair_logprobs(model: LanguageModel, pairs: Sequence[Pair]) -> Tensor:
    """(2, B) log-probabilities (nats) of whole answers under the model as it is active now: preferred ones first."""
    return total_logprobs(model, [*(p.preferred for p in pairs), *(p.non_preferred for p in pairs)]).view(2, len(pairs))


@torch.no_grad()
def reference_logprobs(model: LanguageModel, pairs: Sequence[Pair]) -> Tensor:
    """(2, R) log-probabilities of all pairs under the model as it is active now, for use as a reference."""
    starts = range(0, len(pairs), _SCORED_TOGETHER)
    return torch.cat([pair_logprobs(model, pairs[start : start + _SCORED_TOGETHER]) for start in starts], dim=1)


def measure_preference(policy: Policy, pairs: Sequence[Pair], reference_2R: Tensor, beta: float = BETA) -> Preference:
    """Loss, margin and accuracy of the tuned policy on pairs."""
    with policy.tuned():
        return _preference(*dpo_losses(reference_logprobs(policy.model, pairs), reference_2R, beta))


def supervise(policy: Policy, exchanges: Sequence[Exchange], *, settings: Settings, seed: int) -> list[float]:
    """Plain supervised steps on the adapter; returns each step's mean loss (nats per answer token)."""
    lengths = [len(e.prompt) + len(e.answer) for e in exchanges]
    order = [b for epoch in range(settings.sft_epochs) for b in epoch_order(lengths, settings.batch_size, seed=seed, epoch=epoch + 1)]
    tuner = Tuner(policy.model, rate=settings.sft_rate, total_steps=len(order))
    losses: list[float] = []
    with policy.tuned():
        for batch in order:
            logprobs_N, _ = answer_logprobs(policy.model, [exchanges[i] for i in batch])
            loss = -logprobs_N.mean()
            tuner.step(loss)
            losses.append(float(loss.detach()))
    return losses


def prefer(policy: Policy, pairs: Sequence[Pair], reference_2R: Tensor, *, settings: Settings, seed: int) -> list[Preference]:
    """DPO on the adapter.

    Args:
        policy: as the reference was when ``reference_2R`` was taken.
        pairs: to train on.
        reference_2R: of ``reference_logprobs`` on these pairs.
        settings: epochs, batch size, rate.
        seed: of the order.

    Returns:
        Each step's batch as the policy saw it before the update: the first one's loss is ln 2.
    """
    lengths = [len(p.preferred.prompt) + max(len(p.preferred.answer), len(p.non_preferred.answer)) for p in pairs]
    order = [b for epoch in range(settings.dpo_epochs) for b in epoch_order(lengths, settings.batch_size, seed=seed, epoch=epoch + 1)]
    tuner = Tuner(policy.model, rate=settings.dpo_rate, total_steps=len(order))
    steps: list[Preference] = []
    with policy.tuned():
        for batch in order:
            losses_B, margins_B = dpo_losses(pair_logprobs(policy.model, [pairs[i] for i in batch]), reference_2R[:, batch])
            tuner.step(losses_B.mean())
            steps.append(_preference(losses_B, margins_B))
    return steps


def measure_formality(
    model_dir: Path, rows_file: Path, seed: int, *, num_train: int = 600, num_test: int = 200, settings: Settings | None = None
) -> dict[str, object]:
    """Tune on pairs of a file and compare base, supervised and preference-tuned model on prompts that were not trained on here.

    Whether the *base* has met these sentences is another question: rows drawn from its own corpus make chrF a measure of memory. The
    change of *vous* between the models does not suffer from that, because both answers of a row were then met.

    Args:
        model_dir: a model folder.
        rows_file: ``.jsonl`` or ``.jsonl.xz`` with rows ``{"input": {"messages"}, "preferred_output", "non_preferred_output"}``.
        seed: of training; the split does not depend on it.
        num_train: prompts to train on.
        num_test: prompts to answer.
        settings: how to train.

    Returns:
        Plain values for JSON: ``base``, ``sft`` and ``tuned`` (what ``_describe`` says of each model's answers), ``sft_training``,
        ``dpo`` (loss at step 0, margins, accuracies), ``rows`` (one entry per test prompt, for a bootstrap), ``seconds``.

    Raises:
        PretrainingError: the file cannot be read, a row has another shape, or there are too few prompts.
    """
    train, test = split_by_prompt(_rows(rows_file), num_train=num_train, num_test=num_test)
    return _measure(model_dir, train, test, seed, settings or Settings())


def measure_formality_example(model_dir: Path, example_dir: Path, seed: int, *, settings: Settings | None = None) -> dict[str, object]:
    """The same with all rows of an example's ``train.jsonl`` and ``valid.jsonl``; PretrainingError also when they share a prompt."""
    train, test = (_rows(example_dir / f"{name}.jsonl") for name in ("train", "valid"))
    shared = {_key(row) for row in train} & {_key(row) for row in test}
    if not train or not test or shared:
        raise PretrainingError(f"{example_dir.name} needs rows in both files and no prompt in both; {len(shared)} prompts are in both.")
    return _measure(model_dir, train, test, seed, settings or Settings())


def split_by_prompt(rows: Sequence[Row], *, num_train: int, num_test: int) -> tuple[list[Row], list[Row]]:
    """Disjoint prompts, one row each, drawn with ``SPLIT_SEED``; the test rows stay the same when ``num_train`` changes."""
    by_prompt = {_key(row): row for row in rows}
    keys = sorted(by_prompt)
    if len(keys) < num_train + num_test:
        raise PretrainingError(f"{num_train} + {num_test} prompts were asked for; the file has {len(keys)}.")
    random.Random(SPLIT_SEED).shuffle(keys)
    return [by_prompt[k] for k in keys[num_test : num_test + num_train]], [by_prompt[k] for k in keys[:num_test]]


def neutral_mixture(pairs: Sequence[Pair], seed: int) -> list[Exchange]:
    """One answer of each pair, half of them preferred ones: supervised learning then says nothing about which to choose."""
    sides = [number % 2 == 0 for number in range(len(pairs))]
    random.Random(seed).shuffle(sides)
    return [pair.preferred if side else pair.non_preferred for pair, side in zip(pairs, sides, strict=True)]


def _measure(model_dir: Path, train: Sequence[Row], test: Sequence[Row], seed: int, settings: Settings) -> dict[str, object]:
    began = time.perf_counter()
    policy = Policy.load(model_dir, seed=seed)
    pairs, test_pairs = [_pair(policy, row) for row in train], [_pair(policy, row) for row in test]
    prompts = [pair.preferred.prompt for pair in test_pairs]
    answers = {"base": _answers(policy, prompts)}
    sft_began = time.perf_counter()
    sft_losses = supervise(policy, neutral_mixture(pairs, seed), settings=settings, seed=seed)
    sft_seconds = time.perf_counter() - sft_began
    with policy.tuned():
        answers["sft"] = _answers(policy, prompts)
        dpo_began = time.perf_counter()
        reference_2R, test_reference_2R = reference_logprobs(policy.model, pairs), reference_logprobs(policy.model, test_pairs)
    steps = prefer(policy, pairs, reference_2R, settings=settings, seed=seed)
    dpo_seconds = time.perf_counter() - dpo_began
    with policy.tuned():
        answers["tuned"] = _answers(policy, prompts)
    on_test = measure_preference(policy, test_pairs, test_reference_2R)
    described = {name: _describe(answers[name], test) for name in _MODELS}
    return {
        "seed": seed,
        "num_train": len(train),
        "num_test": len(test),
        **described,
        "sft_training": {"steps": len(sft_losses), **_ends("loss", sft_losses), "seconds": sft_seconds},
        "dpo": {
            "steps": len(steps),
            "beta": BETA,
            "loss_at_step_0": steps[0].loss,
            "loss_at_step_0_minus_ln_2": steps[0].loss - math.log(2),
            **_ends("loss", [s.loss for s in steps]),
            **_ends("margin", [s.margin for s in steps]),
            **_ends("accuracy", [s.accuracy for s in steps]),
            "test_loss": on_test.loss,
            "test_margin": on_test.margin,
            "test_accuracy": on_test.accuracy,
            "seconds": dpo_seconds,
        },
        "rows": [{f"{name}_vous": form_of(answers[name][i]) for name in _MODELS} for i in range(len(test))],
        "seconds": time.perf_counter() - began,
    }


def _answers(policy: Policy, prompts: Sequence[tuple[int, ...]]) -> list[str]:
    return [policy.text(ids) for ids in policy.answer(prompts, max_new_tokens=MAX_NEW_TOKENS)]


def _describe(answers: Sequence[str], rows: Sequence[Row]) -> dict[str, object]:
    """Share of *vous* among answers that show one form, how many do, and chrF (0 to 100; against both references the better one counts)."""
    # Only this measurement needs it, and the package is no dependency of the product.
    from sacrebleu.metrics.chrf import CHRF

    forms = [form for text in answers if (form := form_of(text)) is not None]
    preferred, non_preferred = [row.preferred for row in rows], [row.non_preferred for row in rows]
    return {
        "vous_share": sum(forms) / len(forms) if forms else None,
        "num_showing_one_form": len(forms),
        "num_showing_both_forms": sum(all(shown_forms(text)) for text in answers),
        "num_empty": sum(not text.strip() for text in answers),
        "chrf": CHRF().corpus_score(list(answers), [preferred, non_preferred]).score,
        "chrf_preferred": CHRF().corpus_score(list(answers), [preferred]).score,
        "chrf_non_preferred": CHRF().corpus_score(list(answers), [non_preferred]).score,
    }


def _ends(name: str, values: Sequence[float]) -> dict[str, float]:
    """The first step's value and the mean of the last tenth of the steps: one batch alone is noise."""
    last = values[-max(1, len(values) // 10) :]
    return {f"{name}_first": values[0], f"{name}_last": sum(last) / len(last)}


def _pair(policy: Policy, row: Row) -> Pair:
    return Pair(policy.exchange(row.messages, row.preferred), policy.exchange(row.messages, row.non_preferred))


def _rows(path: Path) -> list[Row]:
    if not path.is_file():
        raise PretrainingError(f"{path} does not exist; name a file of preference rows.")
    return [_row(plain) for plain in read_rows(path)]


def _row(plain: dict[str, Any]) -> Row:
    try:
        (preferred,), (non_preferred,) = plain["preferred_output"], plain["non_preferred_output"]
        return Row(tuple(plain["input"]["messages"]), preferred["content"], non_preferred["content"])
    except (KeyError, TypeError, ValueError):
        raise PretrainingError('A preference row needs "input.messages" and one message in each of the two outputs.') from None


def _key(row: Row) -> str:
    return json.dumps(row.messages, sort_keys=True, ensure_ascii=False)


def main() -> None:
    """Measure once and print the result without its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("rows", type=Path, help="a preference file, or an example folder with train.jsonl and valid.jsonl")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    measure = measure_formality_example if arguments.rows.is_dir() else measure_formality
    result = measure(arguments.model_dir, arguments.rows, arguments.seed)
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1))


if __name__ == "__main__":
    run_script(main)
