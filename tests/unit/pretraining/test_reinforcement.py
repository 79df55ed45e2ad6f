"""GRPO over a tiny real model: advantages, what gives no gradient, and a reward that rises."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pretraining.errors import PretrainingError
from pretraining.evaluation import reinforcement
from pretraining.evaluation.policy import ADAPTER, Policy
from tests.support import tiny_models

SETTINGS = reinforcement.Settings(steps=8, prompts_per_step=4, group_size=8, max_new_tokens=4, rate=3e-3, num_valid=4, valid_samples=2)
PROMPTS = [(8, 300 + number, 9) for number in range(6)]
GRADER = """
def grade(sample, item):
    return len(sample["output_text"]) if item["reference_answer"] == "long" else 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build("llama", tmp_path_factory.mktemp("reinforcement") / "tiny")


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy.load(folder, seed=1)


def _even_share(_: int, answer: tuple[int, ...]) -> float:
    return sum(token % 2 == 0 for token in answer) / len(answer)


def _sharpen(policy: Policy) -> None:
    """Four times the logits: a random model is so near to chance that it would hardly ever emit a given token."""
    with torch.no_grad():
        policy.model.module.get_parameter("final_norm").mul_(4)


def _weights(policy: Policy) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in policy.model.adapter_parameters(ADAPTER)]


def test_advantages_have_mean_zero_and_deviation_one() -> None:
    scored = reinforcement.advantages([1.0, 0.0, 0.0, 0.5])
    assert scored is not None
    assert sum(scored) == pytest.approx(0, abs=1e-9)
    assert math.sqrt(sum(a * a for a in scored) / 4) == pytest.approx(1, abs=1e-3)
    assert scored[0] > scored[3] > scored[1] == scored[2]


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0])
def test_a_group_without_spread_has_no_advantages(reward: float) -> None:
    assert reinforcement.advantages([reward] * 8) is None


def test_equal_rewards_give_no_gradient_and_move_nothing(policy: Policy) -> None:
    before = _weights(policy)
    steps = reinforcement.improve(policy, PROMPTS, lambda number, _: float(number), settings=replace(SETTINGS, steps=2), seed=1)
    assert all(torch.equal(a, b) for a, b in zip(before, _weights(policy), strict=True))
    assert all(p.grad is None for p in policy.model.adapter_parameters(ADAPTER))
    assert [step.num_skipped for step in steps] == [4, 4]


def test_a_few_steps_raise_the_mean_reward_and_leave_the_base(policy: Policy) -> None:
    _sharpen(policy)
    before = policy.answer(PROMPTS, max_new_tokens=4)
    wanted = before[0][0]
    steps = reinforcement.improve(policy, PROMPTS, lambda _, answer: float(wanted in answer), settings=SETTINGS, seed=1)
    assert 0 < steps[0].reward < 0.5
    assert steps[-1].reward > 0.8
    assert steps[0].kl == pytest.approx(0, abs=1e-5)
    assert max(step.kl for step in steps) > 0.01
    assert policy.answer(PROMPTS, max_new_tokens=4) == before


def test_the_same_seed_gives_the_same_run(folder: Path) -> None:
    settings = replace(SETTINGS, steps=2)
    first, second = (reinforcement.improve(Policy.load(folder, seed=1), PROMPTS, _even_share, settings=settings, seed=4) for _ in range(2))
    assert first == second


def test_the_loss_pushes_answers_by_their_advantage_each_token_by_its_share() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    rows, reference = torch.tensor([0, 0, 1]), torch.tensor([-1.0, -2.0, -3.0])
    loss, kl = reinforcement.policy_loss(logprobs, reference, rows, torch.tensor([1.0, -1.0]), num_answers=4, kl_weight=0.5)
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([-1 / 8, -1 / 8, 1 / 4])
    assert float(kl) == 0


def test_the_kl_pulls_towards_the_base() -> None:
    logprobs = torch.tensor([-1.0, -3.0], requires_grad=True)
    loss, kl = reinforcement.policy_loss(
        logprobs, torch.tensor([-2.0, -2.0]), torch.tensor([0, 1]), torch.zeros(2), num_answers=2, kl_weight=1.0
    )
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad[0] > 0 > logprobs.grad[1]
    assert float(kl) == pytest.approx((math.exp(-1) + 1 - 1 + math.exp(1) - 1 - 1) / 2)


def test_sampling_follows_the_models_distribution(policy: Policy) -> None:
    prompt = (8, 300, 9)
    logits = policy.model.prefill(policy.model.new_cache(1, 4), 0, prompt)
    even = torch.arange(len(logits)) % 2 == 0
    expected = float(torch.softmax(logits, -1)[even].sum())
    drawn = policy.answer([prompt] * 2000, max_new_tokens=1, generator=torch.Generator().manual_seed(2))
    assert sum(answer[0] % 2 == 0 for answer in drawn) / 2000 == pytest.approx(expected, abs=0.05)


def _example(folder: Path, source: str = GRADER) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"Say {number}"}], "reference_answer": "long" if number % 2 else "any"}
        for number in range(6)
    ]
    for name in ("train", "valid"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "grader.json").write_text(json.dumps({"type": "python", "source": source}))
    return folder


def test_a_whole_measurement_of_an_example(folder: Path, tmp_path: Path) -> None:
    result = reinforcement.measure_example(folder, _example(tmp_path), 3, settings=replace(SETTINGS, steps=2))
    base, rows, training = result["base"], result["rows"], result["training"]
    assert isinstance(base, dict)
    assert isinstance(rows, list)
    assert isinstance(training, dict)
    assert len(rows) == 4
    assert sum(row["base_greedy"] for row in rows) / 4 == pytest.approx(base["greedy_reward"])
    assert sum(row["base_sampled"] for row in rows) / 4 == pytest.approx(base["sampled_reward"])
    assert rows[0]["base_greedy"] == 0.5
    assert result["base_earns_reward"] is True
    assert result["note"] is None
    assert len(training["rewards"]) == 2
    assert json.loads(json.dumps(result)) == result


def test_a_base_that_earns_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    example = _example(tmp_path, "def grade(sample, item):\n    return 0.0\n")
    result = reinforcement.measure_example(folder, example, 3, settings=replace(SETTINGS, steps=1))
    assert result["base_earns_reward"] is False
    assert "nothing to learn from" in str(result["note"])
    training = result["training"]
    assert isinstance(training, dict)
    assert training["groups_skipped"] == training["groups"] == 4


@pytest.mark.parametrize("body", ["raise KeyError('x')", "return 'many'", "return float('nan')", "return None"])
def test_a_grader_that_fails_gives_zero_and_is_counted(tmp_path: Path, body: str) -> None:
    grader = reinforcement.Grader.load(_example(tmp_path, f"def grade(sample, item):\n    {body}\n") / "grader.json")
    assert grader("text", {}) == 0.0
    assert grader.num_errors == 1


@pytest.mark.parametrize("text", ["{", '{"type": "multi", "source": ""}', '{"type": "python", "source": "x = 1"}', "[]"])
def test_a_grader_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "grader.json").write_text(text)
    with pytest.raises(PretrainingError):
        reinforcement.Grader.load(tmp_path / "grader.json")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PretrainingError, match=r"train\.jsonl"):
        reinforcement._items(tmp_path / "train.jsonl")
