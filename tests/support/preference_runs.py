"""Runs over pairs of answers: a few real pairs as tokens, plain log-probabilities, and runs that are torn and go on."""

from dataclasses import replace

import torch

from luthier.chat.renderer import Renderer
from luthier.core.specs import TuningMethod
from luthier.data.stage import collect
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.attach import ADAPTER_NAME
from luthier.training.loop import Trainer
from tests.support.mini import MINI
from tests.support.trainable_model import Recorder

FORMALITY = MINI.parents[4] / "examples" / "formality-dpo"


def formality(name: str = "train.jsonl", count: int = 12) -> Prepared:
    data = collect("file-A", FORMALITY / name, role="training", max_line_bytes=1 << 20, sha256="", method="dpo")
    return prepare(replace(data, examples=data.examples[:count], num_lines=count), Renderer.load(MINI), max_length=96, role="training")


def figures(report) -> dict[str, float]:
    assert report.preference is not None
    return report.preference


def gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def run(folder, model, spec, train, valid=None, hooks=None, **options):
    hooks = hooks or Recorder()
    return Trainer(model, spec, train, valid, hooks, folder, **options).run(), hooks


def plain_logp(model, example) -> torch.Tensor:
    """log pi(answer | prompt), token by token from whole logits."""
    ids = torch.from_numpy(example.rendered.ids_T)
    places = torch.arange(len(ids))
    logits = model.logits_at(ids[None], torch.tensor([len(ids)]), torch.zeros_like(places), places)
    total = torch.zeros((), dtype=torch.float64)
    for at, weight in enumerate(example.rendered.weights_T):
        if weight:
            total = total + logits[at - 1].double().log_softmax(-1)[ids[at]]
    return total


class Crash(Exception):
    """The process is gone."""


class Crashing(Recorder):
    """Dies inside the report of one step, or when the reference asks for the nth time whether to stop."""

    def __init__(self, *, step: int = 0, asked: int = 0) -> None:
        super().__init__()
        self.at, self.asks = step, asked

    def step_done(self, report):
        super().step_done(report)
        if report.step == self.at:
            raise Crash

    def should_stop(self):
        self.asks -= 1
        if self.asks == 0:
            raise Crash
        return super().should_stop()


def weights(model, method):
    return [p.detach().clone() for p in (model.adapter_parameters(ADAPTER_NAME) if method is TuningMethod.LORA else model.all_parameters())]


def numbers(*parts):
    """What a reader of the log sees: for each step and epoch the later report."""
    whole = Recorder()
    whole.base = parts[-1].base or next(part.base for part in parts if part.base)
    whole.steps = list({s.step: s for part in parts for s in part.steps}.values())
    whole.epochs = list({e.epoch: e for part in parts for e in part.epochs}.values())
    whole.checkpoints = list({c[1]: c for part in parts for c in part.checkpoints}.values())
    return whole.numbers()


def same_in_the_end(tmp_path, make, train, valid, spec, interruptions, **options):
    straight = make()
    end, reference = run(tmp_path / "straight", straight, spec, train, valid, **options)
    parts, result, model = [], None, straight
    for hooks in [*interruptions, Recorder()]:
        parts.append(hooks)
        model = make()
        torch.rand(3)
        try:
            result, _ = run(tmp_path / "torn", model, spec, train, valid, hooks, **options)
        except Crash:
            continue
    assert result == end
    assert all(torch.equal(a, b) for a, b in zip(weights(model, spec.method), weights(straight, spec.method), strict=True))
    assert numbers(*parts) == reference.numbers()
    return parts
