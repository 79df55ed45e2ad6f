"""Group-relative policy optimisation (Shao and others, 2024, arXiv:2402.03300) with LoRA on a reward that can be checked.

What it does: samples groups of answers, grades them, moves the adapter towards what was better than its group, and holds base beside tuned
model. What it does not: warm up (the base must earn reward itself), keep a value network, serve jobs; the product's own engine for this
method is another program. Called by the evaluation of the base model and by hand:

    python -m pretraining.evaluation.reinforcement MODEL_DIR EXAMPLE_DIR --seed 1

One update follows each sampling. The ratio of new to old policy is therefore 1 when its gradient is taken, and the paper's clipping never
acts; it is left out.

The grader is Python source from the example's ``grader.json`` and is run with ``exec`` in this process, without any fence. That is right
only here, because the file is our own and committed beside the example: never point this at a grader that somebody sent.

Axis letters: G answers of a group, B answers of a step, N answer tokens of a step.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretraining.errors import PretrainingError, run_script
from pretraining.evaluation.options import read_rows
from pretraining.evaluation.policy import Exchange, Policy, Tuner, answer_logprobs

TOO_LOW = 0.02
"""Mean reward of the base's samples under which nearly every group is all zero: there is nothing to learn from."""
_SPREAD = 1e-6
_STD_EPSILON = 1e-4

Reward = Callable[[int, tuple[int, ...]], float]
"""The reward of an answer (token ids) to the prompt of this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the policy learns and how it is asked."""

    steps: int = 30
    prompts_per_step: int = 6
    group_size: int = 8
    max_new_tokens: int = 24
    rate: float = 6e-4
    """Peak learning rate."""
    kl_weight: float = 0.04
    num_valid: int = 100
    """At most so many validation rows, the first ones."""
    valid_samples: int = 4
    """Sampled answers per validation row."""


@dataclass(frozen=True, slots=True)
class Step:
    """One update. ``kl`` (nats per token, estimated, to the base) is of the groups that were learned from; 0 when there was none."""

    reward: float
    kl: float
    num_skipped: int
    """Groups without spread."""


@dataclass(slots=True)
class Grader:
    """Calls ``grade(sample, item)`` as the API's python grader does: a failure or a value that is no finite number is 0, and counted."""

    grade: Callable[[dict[str, Any], dict[str, Any]], Any]
    num_errors: int = 0

    @classmethod
    def load(cls, path: Path) -> "Grader":
        """From ``grader.json``: ``{"type": "python", "source": "def grade(sample, item): ..."}``. Runs the source: see the module.

        Raises:
            PretrainingError: the file is missing or no python grader, or its source does not define ``grade``.
        """
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            source = plain["source"] if plain["type"] == "python" else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PretrainingError(f"{path} is no readable grader: {error}") from error
        if source is None:
            raise PretrainingError(f"{path} must hold a grader of type python.")
        space: dict[str, Any] = {}
        exec(compile(source, path.name, "exec"), space)  # our own committed file, see the module's docstring
        if not callable(space.get("grade")):
            raise PretrainingError(f"The source in {path} must define grade(sample, item).")
        return cls(space["grade"])

    def __call__(self, text: str, item: dict[str, Any]) -> float:
        """The reward of a text for a row of the file."""
        try:
            value = float(self.grade({"output_text": text, "output_json": None, "output_tools": []}, item))
        except Exception:  # noqa: BLE001  # whatever a grader raises means reward 0 and one error more
            value = math.nan
        if math.isfinite(value):
            return value
        self.num_errors += 1
        return 0.0


def advantages(rewards_G: Sequence[float]) -> list[float] | None:
    """(r - mean) / (std + epsilon) within one group, with the population's deviation; None when all rewards are the same."""
    mean = math.fsum(rewards_G) / len(rewards_G)
    std = math.sqrt(math.fsum((r - mean) ** 2 for r in rewards_G) / len(rewards_G))
    return None if std < _SPREAD else [(r - mean) / (std + _STD_EPSILON) for r in rewards_G]


def policy_loss(
    logprobs_N: Tensor, reference_N: Tensor, rows_N: Tensor, advantages_B: Tensor, *, num_answers: int, kl_weight: float
) -> tuple[Tensor, Tensor]:
    """The loss of one step and its KL, both scalars.

    Args:
        logprobs_N: of the answers' tokens under the policy, with gradients.
        reference_N: the same under the base, without.
        rows_N: the answer of each token.
        advantages_B: one per answer.
        num_answers: what the sum over answers is divided by; skipped groups count, so that they do not make the others louder.
        kl_weight: beta of the paper.

    Returns:
        The loss: mean over answers of the mean over their tokens. The KL (nats per token) over the answers given, without gradient.
    """
    ratio_N = torch.exp(logprobs_N - logprobs_N.detach())
    apart_N = reference_N - logprobs_N
    # Schulman's estimate: unbiased, and never negative.
    kl_N = torch.expm1(apart_N) - apart_N
    share_N = 1.0 / torch.bincount(rows_N, minlength=len(advantages_B))[rows_N]
    loss = (share_N * (kl_weight * kl_N - ratio_N * advantages_B[rows_N])).sum() / num_answers
    return loss, (share_N * kl_N.detach()).sum() / len(advantages_B)


def improve(policy: Policy, prompts: Sequence[tuple[int, ...]], reward: Reward, *, settings: Settings, seed: int) -> list[Step]:
    """Sample, grade, update, ``settings.steps`` times.

    Args:
        policy: its adapter learns.
        prompts: token ids; drawn in shuffled passes.
        reward: of an answer to the prompt of a number.
        settings: sizes, rate, weight of the KL.
        seed: of the order and of all samples.
    """
    order = _order(len(prompts), settings.steps * settings.prompts_per_step, seed)
    generator = torch.Generator().manual_seed(seed)
    tuner = Tuner(policy.model, rate=settings.rate, total_steps=settings.steps)
    size = settings.prompts_per_step
    starts = range(0, len(order), size)
    return [_update(policy, prompts, order[start : start + size], reward, tuner, generator, settings) for start in starts]


def measure_example(model_dir: Path, example_dir: Path, seed: int, *, settings: Settings | None = None) -> dict[str, object]:
    """Tune on an example's prompts with its grader; the base beside the tuned model on the validation prompts.

    Args:
        model_dir: a model folder.
        example_dir: ``train.jsonl`` and ``valid.jsonl`` (``{"messages": [...], ...}``) and ``grader.json``, whose source is run here.
        seed: of adapter, order and samples.
        settings: how to train.

    Returns:
        Plain values for JSON: ``base`` and ``tuned`` (mean reward of greedy and of sampled answers), ``base_earns_reward`` and ``note``
        (a sentence when the base earns too little to learn from, else None), ``training``, ``rows`` (one entry per validation
        prompt, for a bootstrap), ``grader_errors``, ``seconds``.

    Raises:
        PretrainingError: a file is missing or has another shape.
    """
    began = time.perf_counter()
    settings = settings or Settings()
    grader = Grader.load(example_dir / "grader.json")
    policy = Policy.load(model_dir, seed=seed)
    train, valid = _items(example_dir / "train.jsonl"), _items(example_dir / "valid.jsonl")[: settings.num_valid]
    prompts = [policy.prompt(item["messages"]) for item in train]
    base = _ask(policy, valid, grader, seed, settings)
    tuning_began = time.perf_counter()
    steps = improve(policy, prompts, lambda n, ids: grader(policy.text(ids), train[n]), settings=settings, seed=seed)
    tuning_seconds = time.perf_counter() - tuning_began
    with policy.tuned():
        tuned = _ask(policy, valid, grader, seed, settings)
    earned = _mean(base["sampled"])
    note = f"The base's samples earn {earned:.4f} on average, less than {TOO_LOW}: most groups have nothing to learn from."
    return {
        "seed": seed,
        "num_train": len(train),
        "num_valid": len(valid),
        "base": {f"{kind}_reward": _mean(values) for kind, values in base.items()},
        "tuned": {f"{kind}_reward": _mean(values) for kind, values in tuned.items()},
        "base_earns_reward": earned >= TOO_LOW,
        "note": None if earned >= TOO_LOW else note,
        "training": {
            "steps": len(steps),
            "rewards": [round(step.reward, 4) for step in steps],
            "kl_last": next((step.kl for step in reversed(steps) if step.num_skipped < settings.prompts_per_step), 0.0),
            "groups_skipped": sum(step.num_skipped for step in steps),
            "groups": settings.steps * settings.prompts_per_step,
            "seconds": tuning_seconds,
        },
        "rows": [
            {f"{name}_{kind}": values[kind][row] for name, values in (("base", base), ("tuned", tuned)) for kind in values}
            for row in range(len(valid))
        ],
        "grader_errors": grader.num_errors,
        "seconds": time.perf_counter() - began,
    }


def _update(
    policy: Policy,
    prompts: Sequence[tuple[int, ...]],
    chosen: Sequence[int],
    reward: Reward,
    tuner: Tuner,
    generator: torch.Generator,
    settings: Settings,
) -> Step:
    """One step; nothing moves when no group has spread."""
    asked = [number for number in chosen for _ in range(settings.group_size)]
    with policy.tuned():
        answers = policy.answer([prompts[n] for n in asked], max_new_tokens=settings.max_new_tokens, generator=generator)
    rewards = [reward(number, answer) for number, answer in zip(asked, answers, strict=True)]
    kept: list[Exchange] = []
    scores: list[float] = []
    num_skipped = 0
    for start in range(0, len(asked), settings.group_size):
        group = range(start, start + settings.group_size)
        scored = advantages([rewards[i] for i in group])
        if scored is None:
            num_skipped += 1
            continue
        kept.extend(Exchange(prompts[asked[i]], answers[i]) for i in group)
        scores.extend(scored)
    kl = 0.0
    if kept:
        with torch.no_grad():
            reference_N, _ = answer_logprobs(policy.model, kept)
        with policy.tuned():
            logprobs_N, rows_N = answer_logprobs(policy.model, kept)
            loss, kl_mean = policy_loss(
                logprobs_N, reference_N, rows_N, torch.tensor(scores), num_answers=len(asked), kl_weight=settings.kl_weight
            )
            tuner.step(loss)
        kl = float(kl_mean)
    return Step(reward=_mean(rewards), kl=kl, num_skipped=num_skipped)


def _ask(policy: Policy, items: Sequence[dict[str, Any]], grader: Grader, seed: int, settings: Settings) -> dict[str, list[float]]:
    """Rewards per row of the model as it is active now: of the greedy answer, and the mean over sampled ones."""
    prompts = [policy.prompt(item["messages"]) for item in items]
    greedy = policy.answer(prompts, max_new_tokens=settings.max_new_tokens)
    many = [prompt for prompt in prompts for _ in range(settings.valid_samples)]
    sampled = policy.answer(many, max_new_tokens=settings.max_new_tokens, generator=torch.Generator().manual_seed(seed))
    size = settings.valid_samples
    return {
        "greedy": [grader(policy.text(ids), item) for ids, item in zip(greedy, items, strict=True)],
        "sampled": [
            _mean([grader(policy.text(ids), item) for ids in sampled[row * size : (row + 1) * size]]) for row, item in enumerate(items)
        ],
    }


def _items(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise PretrainingError(f"{path} does not exist; the example needs train.jsonl, valid.jsonl and grader.json.")
    items = read_rows(path)
    if not items or any(not isinstance(item.get("messages"), list) for item in items):
        raise PretrainingError(f'Every line of {path} needs "messages", and there must be one line at least.')
    return items


def _order(count: int, length: int, seed: int) -> list[int]:
    """``length`` numbers below ``count`` in shuffled passes."""
    draw = random.Random(seed)
    order: list[int] = []
    while len(order) < length:
        order += draw.sample(range(count), count)
    return order[:length]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def main() -> None:
    """Measure once and print the result without its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("example_dir", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    result = measure_example(arguments.model_dir, arguments.example_dir, arguments.seed)
    print(json.dumps({name: value for name, value in result.items() if name != "rows"}, indent=1))


if __name__ == "__main__":
    run_script(main)
