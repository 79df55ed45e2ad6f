"""KTO's reference point: its number by hand, none of the gradient, one for a whole step however that is cut, one for a measurement."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from luthier.core.specs import ObjectiveKind, TuningMethod
from luthier.preprocessing.stage import Prepared
from luthier.training.evaluate import measure
from luthier.training.kto import KtoObjective, kto_loss
from luthier.training.objective import Totals
from luthier.training.reference import ReferenceStore
from luthier.training.turns import run_alone
from tests.support.preference_rows import pair_spec, pairs
from tests.support.preference_runs import gradient, plain_logp, run
from tests.support.trainable_model import Recorder, TrainableModel

BETA = 0.5


def _logps(model, source) -> np.ndarray:
    with torch.no_grad():
        return np.array([float(plain_logp(model, example)) for example in source.examples])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _by_hand(rewards: np.ndarray, drift: np.ndarray) -> tuple[float, float]:
    """The mean loss of examples that are good and bad in turn, and the reference point, in plain numbers."""
    z0 = max(0.0, float(BETA * drift.mean()))
    losses = [1 - _sigmoid(r - z0) if at % 2 == 0 else 1 - _sigmoid(z0 - r) for at, r in enumerate(rewards)]
    return sum(losses) / len(losses), z0


class _Setting:
    """A model that moved, its rows, and their log-ratios by hand."""

    def __init__(self, tmp_path, *, towards: float, sources: tuple[Prepared, ...] = ()) -> None:
        self.model = TrainableModel()
        self.sources: tuple[Prepared, ...] = sources or (pairs(),)
        self.beside = [source.mismatched(64) for source in self.sources]
        before = [_logps(self.model, source) for source in (*self.sources, *self.beside)]
        self.objective = KtoObjective(BETA, 64)
        store = ReferenceStore(tmp_path / "reference", "x")
        assert run_alone(self.objective.prepare(self.model, self.sources, adapter=None, store=store, hooks=Recorder()))
        (self.table,) = self.model.all_parameters()
        self.table.data += 0.5 * torch.randn(self.table.shape, generator=torch.Generator().manual_seed(0))
        self._move(towards)
        self.table.requires_grad_(True)
        after = [_logps(self.model, source) for source in (*self.sources, *self.beside)]
        ratios = [now - then for now, then in zip(after, before, strict=True)]
        self.rewards, self.drifts = [BETA * part for part in ratios[: len(self.sources)]], ratios[len(self.sources) :]

    def _move(self, towards: float) -> None:
        """Make prompts beside answers of other rows likelier, or, below 0, less likely."""
        self.table.requires_grad_(True)
        torch.stack([plain_logp(self.model, row) for beside in self.beside for row in beside.examples]).sum().backward()
        self.table.data += towards * gradient(self.table)
        self.table.grad = None


def _pairs_of(values: np.ndarray, examples) -> np.ndarray:
    return values.reshape(-1, 2)[list(examples)].ravel()


@pytest.mark.parametrize("towards", [1.0, -1.0])
@pytest.mark.parametrize("examples", [range(21), [3, 8, 5, 20], [7]], ids=["all", "four", "one"])
def test_loss_and_reference_point_are_those_of_a_computation_by_hand(tmp_path, towards, examples):
    setting = _Setting(tmp_path, towards=towards)
    (source,) = setting.sources
    loss, z0 = _by_hand(_pairs_of(setting.rewards[0], examples), _pairs_of(setting.drifts[0], examples))
    assert (z0 > 0.1) == (towards > 0), "above its bound, and at it"
    bound = run_alone(setting.objective.for_examples(setting.model, source, examples))
    sums = bound.sums(setting.model, source, [2 * pair + part for pair in examples for part in (0, 1)])
    assert float(sums.loss.detach()) / sums.count == pytest.approx(loss, rel=1e-5)
    untouched = setting.objective.sums(setting.model, source, [2 * pair + part for pair in examples for part in (0, 1)])
    assert (float(untouched.loss.detach()) == pytest.approx(float(sums.loss.detach()), rel=1e-7)) == (towards < 0), "0 without it"


def test_the_reference_point_has_no_gradient(tmp_path):
    """The gradient is that of the formula with a number in its place, and not that of the formula with the rows it comes from."""
    setting = _Setting(tmp_path, towards=1.0)
    (source,), (beside,), table = setting.sources, setting.beside, setting.table
    sums = run_alone(setting.objective.for_examples(setting.model, source, range(21))).sums(setting.model, source, range(42))
    sums.loss.backward()
    ours = gradient(table).clone()

    def by_autograd(*, detached: bool) -> torch.Tensor:
        table.grad = None
        policy = torch.stack([plain_logp(setting.model, row) for row in source.examples])
        drift = torch.stack([plain_logp(setting.model, row) for row in beside.examples])
        rewards = BETA * (policy - policy.detach()) + torch.from_numpy(setting.rewards[0])
        z0 = BETA * (drift - drift.detach()).mean() + BETA * float(setting.drifts[0].mean())
        kto_loss(rewards.view(-1, 2), z0.detach() if detached else z0).sum().backward()
        return gradient(table).clone()

    torch.testing.assert_close(ours, by_autograd(detached=True).float(), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(ours, by_autograd(detached=False).float(), rtol=1e-3, atol=1e-6)


def test_one_pair_at_a_time_has_the_whole_steps_reference_point(tmp_path):
    setting = _Setting(tmp_path, towards=1.0)
    (source,), model = setting.sources, setting.model
    bound = run_alone(setting.objective.for_examples(model, source, range(21)))
    whole = Totals().plus(bound.sums(model, source, range(42)))
    model.facts = replace(model.facts, hidden_size=700_000)
    cut = Totals()
    bound = run_alone(setting.objective.for_examples(model, source, range(21)))
    for pair in range(21):
        cut = cut.plus(bound.sums(model, source, [2 * pair, 2 * pair + 1]))
    assert cut.count == whole.count
    assert cut.loss == pytest.approx(whole.loss, rel=1e-6)
    assert cut.parts == pytest.approx(whole.parts, rel=1e-5, abs=1e-5)
    alone = sum(
        float(run_alone(setting.objective.for_examples(model, source, [pair])).sums(model, source, [2 * pair, 2 * pair + 1]).loss.detach())
        for pair in range(21)
    )
    assert alone != pytest.approx(whole.loss, rel=1e-4), "pairs that do not belong together have other ones"


def test_a_measurement_has_the_reference_point_of_all_its_rows(tmp_path):
    setting = _Setting(tmp_path, towards=1.0, sources=(pairs(), pairs(9, seed=5)))
    held_out = setting.sources[1]
    for examples in (None, [4, 2, 7]):
        chosen = range(9) if examples is None else examples
        loss, z0 = _by_hand(_pairs_of(setting.rewards[1], chosen), _pairs_of(setting.drifts[1], chosen))
        assert z0 > 0.1
        told = measure(setting.model, held_out, examples, objective=setting.objective)
        assert told.loss == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("method", list(TuningMethod))
def test_a_run_has_each_steps_own_reference_point(tmp_path, method):
    """Of every step's loss, given its rewards: the steps of a run that moves far are not those of the loss with z0 = 0."""
    train = pairs()
    spec = pair_spec(train, method=method, epochs=6, batch_size=1, objective=ObjectiveKind.KTO, beta=BETA)
    _, hooks = run(tmp_path, TrainableModel(), spec, train)
    above = 0
    for step in hooks.steps:
        assert step.preference is not None
        better, worse = step.preference["reward_chosen"], step.preference["reward_rejected"]
        at_zero = (_sigmoid(-better) + _sigmoid(worse)) / 2
        above += abs(step.loss - at_zero) > 1e-4
    assert 0 < above < len(hooks.steps)
